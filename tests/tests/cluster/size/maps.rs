//! What a node's maps should hold by the store's word, and what they do hold.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use dataplane::bpf::Maps;
use dataplane::controller::State;
use dataplane::model::ServiceAssignment;
use dataplane_ebpf::abi::{Addr, BackendKey, Backends, Endpoint, Identity, Sealed as _, ServiceKey};

/// Where a backend is: its addresses, and its node's id.
pub(super) type Place = (Addr, u32, u32);

/// ENDPOINTS, SERVICES with their BACKENDS, and the keys of NODES.
#[derive(Debug, PartialEq)]
pub(super) struct Content {
    endpoints: BTreeMap<Addr, Endpoint>,
    /// By environment and VIP: service, networks, backends.
    services: BTreeMap<ServiceKey, (u32, u64, BTreeSet<Place>)>,
    nodes: BTreeSet<u32>,
}

impl Content {
    /// As a node must have it that has no replica itself, while all others are well.
    pub(super) fn wanted(state: &State, here: &str) -> Self {
        let id = |node: &String| state.nodes[node].value.id;
        let (mut endpoints, mut backends) = (BTreeMap::new(), BTreeMap::<u32, BTreeSet<Place>>::new());
        for replica in state.replicas.values().map(|replica| &replica.value) {
            let identity = Identity { env: replica.env, service: replica.service_id };
            let (node, networks) = (id(&replica.node), replica.networks);
            let (address4, address6) = (Addr::from(replica.address4), Addr::from(replica.address6));
            for address in [address4, address6] {
                let endpoint = Endpoint { networks, identity, node, ..Endpoint::default() };
                endpoints.insert(address, endpoint.sealed(&address));
            }
            backends.entry(replica.service_id).or_default().insert((address6, address4.v4_word(), node));
        }
        let entries = |service: &ServiceAssignment| {
            let content = (service.id, service.networks, backends.get(&service.id).cloned().unwrap_or_default());
            vips(service).map(|key| (key, content.clone()))
        };
        let services = state.services.values().flat_map(|service| entries(&service.value)).collect();
        let nodes = state.nodes.keys().filter(|name| *name != here).map(id).collect();
        Self { endpoints, services, nodes }
    }

    /// What is there.
    pub(super) fn found(maps: &Maps) -> Result<Self> {
        let mut backends: BTreeMap<(u32, u32), BTreeSet<Place>> = BTreeMap::new();
        for (key, backend) in maps.backends.entries()? {
            ensure!(backend == backend.sealed(&key), "a seal is broken: {key:?}");
            let place = (backend.address6, backend.address4, backend.node);
            backends.entry((key.service, key.generation)).or_default().insert(place);
        }
        let mut services = BTreeMap::new();
        for (key, service) in maps.services.entries()? {
            ensure!(service == service.sealed(&key), "a seal is broken: {key:?}");
            let generation = Backends::from_word(service.backends).generation;
            let places = backends.get(&(service.service, generation)).cloned().unwrap_or_default();
            services.insert(key, (service.service, service.networks, places));
        }
        let nodes = maps.nodes.entries()?.into_iter().map(|(id, _)| id).collect();
        Ok(Self { endpoints: maps.endpoints.entries()?.into_iter().collect(), services, nodes })
    }

    /// Nothing is missing, nothing is foreign, nothing differs.
    pub(super) fn must_be(&self, wanted: &Self) -> Result<()> {
        fn differ<K: Ord, V: PartialEq>(what: &str, found: &BTreeMap<K, V>, wanted: &BTreeMap<K, V>) -> Result<()> {
            let missing = wanted.keys().filter(|key| !found.contains_key(key)).count();
            let foreign = found.keys().filter(|key| !wanted.contains_key(key)).count();
            let other = wanted.iter().filter(|(key, value)| found.get(key).is_some_and(|it| it != *value)).count();
            ensure!(
                missing + foreign + other == 0,
                "{what}: of {} entries {missing} are missing, {other} differ, {foreign} are foreign",
                wanted.len()
            );
            Ok(())
        }
        differ("ENDPOINTS", &self.endpoints, &wanted.endpoints)?;
        differ("SERVICES", &self.services, &wanted.services)?;
        ensure!(self.nodes == wanted.nodes, "NODES: {} of {}", self.nodes.len(), wanted.nodes.len());
        Ok(())
    }

    /// How many there are of each.
    pub(super) fn sizes(&self) -> [usize; 3] {
        [self.endpoints.len(), self.services.len(), self.nodes.len()]
    }
}

/// The keys of a service in SERVICES.
fn vips(service: &ServiceAssignment) -> [ServiceKey; 2] {
    [Addr::from(service.vip4), Addr::from(service.vip6)].map(|vip| ServiceKey { env: service.env, vip })
}

/// How many backends each of the two VIPs of a service leads to.
pub(super) fn backends(maps: &Maps, service: &ServiceAssignment) -> Result<[Option<u16>; 2]> {
    let [first, second] = vips(service).map(|key| maps.services.get(&key));
    let count = |found: Option<dataplane_ebpf::abi::Service>| found.map(|it| Backends::from_word(it.backends).count);
    Ok([count(first?), count(second?)])
}

/// Whether a set of the service has a backend at this address.
pub(super) fn leads_to(maps: &Maps, service: &ServiceAssignment, address6: Addr) -> Result<bool> {
    let [key, _] = vips(service);
    let Some(found) = maps.services.get(&key)? else { return Ok(false) };
    let Backends { generation, count, .. } = Backends::from_word(found.backends);
    for slot in 0..u32::from(count) {
        let key = BackendKey { service: service.id, generation, slot };
        if maps.backends.get(&key)?.is_some_and(|backend| backend.address6 == address6) {
            return Ok(true);
        }
    }
    Ok(false)
}
