//! What the pinned maps should hold, computed from what is assigned and what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane_ebpf::abi::{
    self, Addr, BackendKey, Device, EgressKey, EgressRule, Endpoint, GrantKey, Identity, ListKey, Name, NameKey, Netns,
    Node, NodeConfig, Pool, Ptr, PtrKey, Sealed, UPLINKS_MAX, flags,
};

use super::desired::{Desired, Elsewhere};
use super::health::serving;
use super::names::{full_name, named, replica_name, short_forms, wire_name};
use super::observed::Observed;
use super::plan::is_as_assigned;
use crate::config::marks;
use crate::model::spec::Affinity;
use crate::model::{ReplicaAssignment, ReplicaKey, ServiceAssignment, ServiceKey};
use crate::netlink;

mod egress;

pub use egress::{egress_lists, egress_rules};

/// The contents of the maps that the agent writes. Values are sealed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TableSet {
    /// NODE.
    pub node: NodeConfig,
    /// DEVICES.
    pub devices: BTreeMap<u32, Device>,
    /// NETNS.
    pub netns: BTreeMap<u64, Netns>,
    /// ENDPOINTS.
    pub endpoints: BTreeMap<Addr, Endpoint>,
    /// NODES.
    pub nodes: BTreeMap<u32, Node>,
    /// SERVICES with the BACKENDS of the current generation.
    pub services: BTreeMap<abi::ServiceKey, BackendSet>,
    /// NAMES.
    pub names: BTreeMap<NameKey, Name>,
    /// PTRS.
    pub ptrs: BTreeMap<PtrKey, Ptr>,
    /// EGRESS.
    pub egress: BTreeMap<EgressKey, EgressRule>,
    /// EGRESS_LISTS.
    pub lists: BTreeMap<ListKey, EgressRule>,
    /// Keys of GRANTS.
    pub grants: BTreeSet<GrantKey>,
    /// Keys of BUDGETS: the programs write it.
    pub budgets: BTreeSet<u32>,
    /// Keys of BACKENDS that are in no set, neither a current one nor one that has just been.
    pub loose: BTreeSet<BackendKey>,
    /// Identities that COUNTERS and DROPS know.
    pub counted: BTreeSet<Identity>,
}

/// A service's entry in SERVICES and its backends in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendSet {
    /// Service id.
    pub service: u32,
    /// Networks it is in, a bit each.
    pub networks: u64,
    /// Each client is always sent to the same of them.
    pub affinity: bool,
    /// Addresses of its backends, those of this node first.
    pub backends: Vec<BackendAddress>,
    /// Nobody else has written to it: seals, flags and counts are as skepd leaves them.
    pub intact: bool,
}

/// Where a backend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackendAddress {
    /// IPv4.
    pub address4: Ipv4Addr,
    /// IPv6.
    pub address6: Ipv6Addr,
    /// Node id.
    pub node: u32,
}

impl BackendAddress {
    fn new(address4: Ipv4Addr, address6: Ipv6Addr, node: u32) -> Self {
        Self { address4, address6, node }
    }
}

/// The entries that one replica has in DEVICES, NETNS and ENDPOINTS.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// Key and value in DEVICES.
    pub device: (u32, Device),
    /// Key and value in NETNS.
    pub netns: (u64, Netns),
    /// Keys and values in ENDPOINTS.
    pub endpoints: [(Addr, Endpoint); 2],
}

impl Registration {
    /// Of a replica behind this device, in this network namespace.
    pub fn new(replica: &ReplicaAssignment, node: u32, ifindex: u32, cookie: u64) -> Self {
        let identity = Identity { env: replica.env, service: replica.service_id };
        let flags = if replica.egress { flags::EGRESS | flags::of_list(egress::list(replica)) } else { 0 };
        let (address4, address6) = (Addr::from(replica.address4), Addr::from(replica.address6));
        let mac = netlink::container_mac(replica.address4);
        let networks = replica.networks;
        let device = Device {
            networks,
            identity,
            address6,
            address4: address4.v4_word(),
            flags,
            mac,
            host_mac: netlink::host_mac(replica.address4),
            ..Device::default()
        };
        let netns = Netns { networks, identity, address6, address4: address4.v4_word(), flags, ..Netns::default() };
        let endpoint = Endpoint { networks, identity, node, ifindex, mac, ..Endpoint::default() };
        Self {
            device: (ifindex, device.sealed(&ifindex)),
            netns: (cookie, netns.sealed(&cookie)),
            endpoints: [address4, address6].map(|address| (address, endpoint.sealed(&address))),
        }
    }

    /// Whether the maps hold exactly this.
    pub fn is_in(&self, tables: &TableSet) -> bool {
        tables.devices.get(&self.device.0) == Some(&self.device.1)
            && tables.netns.get(&self.netns.0) == Some(&self.netns.1)
            && self.endpoints.iter().all(|(address, endpoint)| tables.endpoints.get(address) == Some(endpoint))
    }
}

/// The entries of ENDPOINTS of all replicas of other nodes.
pub(super) fn elsewhere(desired: &Desired) -> impl Iterator<Item = (Addr, Endpoint)> + use<'_> {
    desired.elsewhere.values().flat_map(|replica| {
        let Elsewhere { node, env, service_id: service, networks, .. } = *replica;
        let endpoint = Endpoint { networks, identity: Identity { env, service }, node, ..Endpoint::default() };
        replica.addresses().map(|address| (address, endpoint.sealed(&address)))
    })
}

/// NAMES, PTRS and SERVICES of all assigned services, with the backends that serve now.
pub(super) fn publish(desired: &Desired, observed: &Observed) -> TableSet {
    let mut tables = TableSet::default();
    // A service's own name beats another's alias, whichever comes first.
    for service in desired.services.values().filter(|service| !service.leaving) {
        for alias in service.aliases.iter().filter(|(alias, _)| **alias != service.key.service) {
            put_names(&mut tables, service, &short_forms(alias.0), *alias.1);
        }
    }
    for (key, service) in desired.services.iter().filter(|(_, service)| !service.leaving) {
        let mut forms = short_forms(&key.service).to_vec();
        forms.push(full_name(key));
        put_names(&mut tables, service, &forms, service.networks);
        let here = desired.replicas_of(key).map(|of| (&of.key, (of.address4, of.address6)));
        let elsewhere = desired.elsewhere_of(key).map(|(of, replica)| (of, (replica.address4, replica.address6)));
        let replicas: Vec<_> = here.chain(elsewhere).collect();
        for (number, to) in named(service, replicas.iter().copied()) {
            put_name(&mut tables, service, &replica_name(key, number), service.networks, to);
        }
        let addresses = [IpAddr::V4(service.vip4), IpAddr::V6(service.vip6)];
        let replicas = replicas.into_iter().flat_map(|(_, (v4, v6))| [IpAddr::V4(v4), IpAddr::V6(v6)]);
        for address in addresses.into_iter().chain(replicas) {
            put_ptr(&mut tables, service, address);
        }
        let set = BackendSet {
            service: service.id,
            networks: service.networks,
            affinity: service.spec.affinity == Affinity::Client,
            backends: backends(key, desired, observed),
            intact: true,
        };
        for address in addresses {
            tables.services.insert(abi::ServiceKey { env: service.env, vip: address.into() }, set.clone());
        }
    }
    tables
}

/// The replicas that serve now.
fn backends(service: &ServiceKey, desired: &Desired, observed: &Observed) -> Vec<BackendAddress> {
    let served_by = |key: &ReplicaKey| desired.services.get(service).is_some_and(|service| service.is_served_by(key));
    let health = |replica: &ReplicaAssignment| observed.health.get(&replica.key);
    let runs = |replica: &&ReplicaAssignment| served_by(&replica.key) && runs(replica, desired, observed);
    let running = desired.replicas_of(service).map(AsRef::as_ref).filter(runs);
    let here = running.filter_map(|r| Some((BackendAddress::new(r.address4, r.address6, desired.node.id), health(r)?)));
    let elsewhere = desired.elsewhere_of(service).filter(|(key, _)| served_by(key));
    let elsewhere =
        elsewhere.filter_map(|(_, r)| Some((BackendAddress::new(r.address4, r.address6, r.node), r.well.as_ref()?)));
    let mut backends: Vec<_> = serving(here.chain(elsewhere));
    // Those of this node first.
    backends.sort_unstable_by_key(|backend| (backend.node != desired.node.id, *backend));
    backends
}

/// Whether a replica runs in its own sandbox behind its own device. Its entries are no condition: they are written
/// before any set is switched, and a change of networks must not take it out meanwhile.
pub(super) fn runs(replica: &ReplicaAssignment, desired: &Desired, observed: &Observed) -> bool {
    let workload = observed.workloads.get(&replica.key).filter(|workload| workload.runs());
    workload.is_some_and(|workload| is_as_assigned(workload, replica))
        && registration(replica, desired, observed).is_some()
}

/// The entries of a replica whose device and namespace exist.
pub(super) fn registration(
    replica: &ReplicaAssignment,
    desired: &Desired,
    observed: &Observed,
) -> Option<Registration> {
    let cookie = observed.sandboxes.get(&replica.key)?.cookie()?;
    let ifindex = observed.veths.get(&replica.address4)?.ifindex;
    Some(Registration::new(replica, desired.node.id, ifindex, cookie))
}

/// The NODE entry; `epoch` is left to the caller.
pub(super) fn node_config(desired: &Desired, observed: &Observed, epoch: u32) -> NodeConfig {
    let config = &desired.node.config;
    let mut uplinks = [0; UPLINKS_MAX];
    for (slot, ifindex) in uplinks.iter_mut().zip(&observed.uplinks) {
        *slot = *ifindex;
    }
    NodeConfig {
        container_pools: [
            Pool::new(config.container_pool4.network().into(), config.container_pool4.prefix_len()),
            Pool::new(config.container_pool6.network().into(), config.container_pool6.prefix_len()),
        ],
        vip_pools: [
            Pool::new(config.vip_pool4.network().into(), config.vip_pool4.prefix_len()),
            Pool::new(config.vip_pool6.network().into(), config.vip_pool6.prefix_len()),
        ],
        dns: config.dns().into(),
        uplinks,
        host_mark: marks::HOST,
        pass_mark: marks::PASS,
        mark_mask: marks::MASK,
        epoch,
        node: desired.node.id,
        pad: 0,
    }
}

fn put_names(tables: &mut TableSet, service: &ServiceAssignment, names: &[String], networks: u64) {
    for name in names {
        put_name(tables, service, name, networks, (service.vip4, service.vip6));
    }
}

fn put_name(tables: &mut TableSet, service: &ServiceAssignment, name: &str, networks: u64, to: (Ipv4Addr, Ipv6Addr)) {
    let Some((name, _)) = wire_name(name) else { return };
    let key = NameKey { env: service.env, name };
    let port = service.spec.port.unwrap_or_default().into();
    let value = Name { networks, vip4: Addr::from(to.0).v4_word(), vip6: to.1.into(), port, seal: 0 };
    tables.names.insert(key, value.sealed(&key));
}

fn put_ptr(tables: &mut TableSet, service: &ServiceAssignment, address: IpAddr) {
    let Some((name, len)) = wire_name(&full_name(&service.key)) else { return };
    let key = PtrKey { env: service.env, addr: address.into() };
    let value = Ptr { networks: service.networks, name, len, pad: 0, seal: 0 };
    tables.ptrs.insert(key, value.sealed(&key));
}
