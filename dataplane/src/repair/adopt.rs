//! Takes a replica that runs back into a store that lost it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::backup::revive::{put, value};
use crate::clock::unix;
use crate::model::allocation::{Ids, PrefixPool};
use crate::model::record::ReplicaRecord;
use crate::model::spec::NetworkSpec;
use crate::model::{
    Deployment, DeploymentState, EnvironmentAssignment, EnvironmentSpec, NodeRecord, Phase, Pools, ReplicaAssignment,
    ServiceAssignment, ServiceSpec,
};
use crate::store::{Snapshot, StoreError, schema};

/// Length of a node's IPv4 prefix.
const PREFIX_LEN4: u8 = 24;
/// Length of its IPv6 prefix.
const PREFIX_LEN6: u8 = 64;
/// Addresses in a node's IPv4 prefix.
const PREFIX_SIZE: u128 = 256;

/// Everything that a replica needs in the store, put there unless it contradicts what is there already: then the reason.
///
/// # Errors
/// [`StoreError::Value`] when a value in the store is not what its key promises.
pub(super) fn adopt(
    snapshot: &mut Snapshot,
    record: &ReplicaRecord,
    pools: &Pools,
) -> Result<Result<(), String>, StoreError> {
    // On a copy: one that turns out to contradict leaves nothing behind.
    let mut after = snapshot.clone();
    let done = node(&mut after, &record.assignment, pools)?
        .and(environment(&mut after, record)?)
        .and(service(&mut after, record)?);
    if done.is_ok() {
        let replica = &record.assignment;
        deployment(&mut after, replica)?;
        ids(&mut after, replica)?;
        put(&mut after, &schema::replica(&replica.node, &replica.key), replica)?;
        *snapshot = after;
    }
    Ok(done)
}

/// The node has the prefixes that the replica's addresses are of.
fn node(after: &mut Snapshot, replica: &ReplicaAssignment, pools: &Pools) -> Result<Result<(), String>, StoreError> {
    let prefix4 = Ipv4Net::new_assert(replica.address4, PREFIX_LEN4).trunc();
    let prefix6 = Ipv6Net::new_assert(replica.address6, PREFIX_LEN6).trunc();
    let key = schema::node(&replica.node);
    let mut node = value(after, &key)?.unwrap_or_else(|| NodeRecord {
        name: replica.node.clone(),
        id: 1,
        prefixes4: Vec::new(),
        prefix6,
    });
    // IPv6 addresses count through the IPv4 prefixes in their order.
    let index = (offset6(replica.address6, prefix6) / PREFIX_SIZE) as usize;
    if node.prefix6 != prefix6 || node.prefixes4.get(index).is_some_and(|there| *there != prefix4) {
        return Ok(Err(format!("its addresses {} and {} are not of this node", replica.address4, replica.address6)));
    }
    if index > node.prefixes4.len() {
        return Ok(Err(format!("no replica tells the prefixes of this node before {prefix4}")));
    }
    if index == node.prefixes4.len() {
        node.prefixes4.push(prefix4);
    }
    put(after, &key, &node)?;
    let mut search: PrefixPool = value(after, &schema::prefixes())?.unwrap_or_default();
    let taken =
        (prefix4.network().to_bits().saturating_sub(pools.container4.network().to_bits())) >> (32 - PREFIX_LEN4);
    search.cursor = search.cursor.max(taken + 1);
    put(after, &schema::prefixes(), &search)?;
    Ok(Ok(()))
}

fn environment(after: &mut Snapshot, record: &ReplicaRecord) -> Result<Result<(), String>, StoreError> {
    let key = &record.assignment.key.service.environment;
    let mut environment = value(after, &schema::environment(key))?.unwrap_or_else(|| EnvironmentAssignment {
        key: key.clone(),
        id: record.assignment.env,
        networks: BTreeMap::new(),
        resting: BTreeMap::new(),
    });
    if environment.id != record.assignment.env {
        return Ok(Err(format!("{key} has another id now")));
    }
    for (name, bit) in &record.networks {
        let other = environment.networks.iter().any(|(n, b)| (n == name) != (b == bit));
        if other {
            return Ok(Err(format!("the networks of {key} have other bits now")));
        }
        environment.networks.insert(name.clone(), *bit);
    }
    put(after, &schema::environment(key), &environment)?;
    Ok(Ok(()))
}

fn service(after: &mut Snapshot, record: &ReplicaRecord) -> Result<Result<(), String>, StoreError> {
    let replica = &record.assignment;
    let key = &replica.key.service;
    if let Some(there) = value(after, &schema::service(key))? {
        if (there.id, there.vip4, there.vip6) != (replica.service_id, replica.vip4, replica.vip6) {
            return Ok(Err(format!("{key} has another id or VIP now")));
        }
        // Of two versions the newer one is what people wanted last.
        if there.deployment >= replica.key.deployment {
            return Ok(Ok(()));
        }
    }
    let mut aliases: BTreeMap<String, u64> = BTreeMap::new();
    for (network, attachment) in &replica.spec.networks {
        let bit = record.networks.get(network).map_or(0, |bit| 1 << bit);
        for alias in &attachment.aliases {
            *aliases.entry(alias.clone()).or_default() |= bit;
        }
    }
    let service = ServiceAssignment {
        key: key.clone(),
        env: replica.env,
        id: replica.service_id,
        vip4: replica.vip4,
        vip6: replica.vip6,
        networks: replica.networks,
        aliases,
        deployment: replica.key.deployment,
        next: None,
        spec: replica.spec.clone(),
        leaving: false,
    };
    put(after, &schema::service(key), &service)?;
    Ok(Ok(()))
}

/// The version that serves, which is what people wanted.
fn deployment(after: &mut Snapshot, replica: &ReplicaAssignment) -> Result<(), StoreError> {
    let key = &replica.key.service;
    if value(after, &schema::service(key))?.is_some_and(|there| there.deployment > replica.key.deployment) {
        return Ok(());
    }
    let key = key.deployment(replica.key.deployment);
    let mut deployment = value(after, &schema::deployment(&key))?.unwrap_or_else(|| Deployment {
        state: DeploymentState::Ready,
        phase: Phase::Over,
        image: replica.image.clone(),
        served: true,
        spec: ServiceSpec { replicas: 0, ..replica.spec.clone() },
        ..Deployment::new(key.clone(), replica.spec.clone(), unix())
    });
    deployment.spec.replicas = deployment.spec.replicas.max(replica.spec.replicas).max(replica.key.replica);
    put(after, &schema::deployment(&key), &deployment)?;
    intent(after, replica, &deployment.spec)?;
    if let Some(service) = value(after, &schema::service(&key.service))? {
        let service = ServiceAssignment { spec: deployment.spec, ..service };
        put(after, &schema::service(&key.service), &service)?;
    }
    Ok(())
}

fn intent(after: &mut Snapshot, replica: &ReplicaAssignment, spec: &ServiceSpec) -> Result<(), StoreError> {
    let key = &replica.key.service.environment;
    let mut intent = value(after, &schema::intent(key))?.unwrap_or_else(|| EnvironmentSpec {
        key: key.clone(),
        services: BTreeMap::new(),
        networks: BTreeMap::new(),
        volumes: Default::default(),
    });
    intent.services.insert(replica.key.service.service.clone(), spec.clone());
    for name in replica.spec.networks.keys() {
        // A service without a way out is in internal networks alone, unless it wants none itself; any other network
        // leads out.
        let network = intent.networks.entry(name.clone()).or_insert(NetworkSpec { internal: false });
        network.internal |= !replica.egress && !spec.egress.as_ref().is_some_and(BTreeSet::is_empty);
    }
    intent.volumes.extend(replica.spec.volumes.iter().map(|mount| mount.volume.clone()));
    put(after, &schema::intent(key), &intent)
}

fn ids(after: &mut Snapshot, replica: &ReplicaAssignment) -> Result<(), StoreError> {
    let mut ids: Ids = value(after, &schema::ids())?.unwrap_or_default();
    ids.environment = ids.environment.max(replica.env);
    ids.service = ids.service.max(replica.service_id);
    ids.node = ids.node.max(1);
    put(after, &schema::ids(), &ids)
}

fn offset6(address: Ipv6Addr, prefix: Ipv6Net) -> u128 {
    address.to_bits() - prefix.network().to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{Clock, State, reconcile};
    use crate::model::allocation::example_pools as pools;
    use crate::model::record::example;
    use crate::store::Event;

    fn state(snapshot: &Snapshot) -> State {
        let mut state = State::default();
        for entry in snapshot.range("") {
            state.apply(&Event::Put(entry)).unwrap();
        }
        state.revision = snapshot.revision;
        state
    }

    /// An empty store and what runs: the controller finds nothing to change, whatever the order.
    #[test]
    fn what_runs_is_enough_for_a_store_that_changes_nothing() {
        let shut = |replica| {
            let mut record = example("shut", replica, false, &[("front", 0)]);
            record.assignment.spec.egress = Some(BTreeSet::new());
            record
        };
        let records = [
            example("web", 1, true, &[("front", 0), ("back", 1)]),
            example("web", 2, true, &[("front", 0), ("back", 1)]),
            example("postgres", 1, false, &[("back", 1)]),
            example("postgres", 2, false, &[("back", 1)]),
            shut(1),
            shut(2),
        ];
        for turn in 0..records.len() {
            let mut order = records.to_vec();
            order.rotate_left(turn);
            let mut snapshot = Snapshot { revision: 7, ..Snapshot::default() };
            for record in &order {
                assert_eq!(adopt(&mut snapshot, record, &pools()).unwrap(), Ok(()));
            }
            let state = state(&snapshot);
            let key = records[0].assignment.key.service.environment.clone();
            let txn = reconcile(&state, &pools(), &key, Clock::at(1_000_000_000)).unwrap().txn;
            assert_eq!(txn.then, [], "turn {turn}");
            let replicas: Vec<_> = state.replicas_of(&key).map(|replica| replica.value.clone()).collect();
            assert_eq!(replicas.len(), records.len());
            assert!(records.iter().all(|record| replicas.contains(&record.assignment)));
        }
    }

    #[test]
    fn a_replica_that_contradicts_the_store_is_refused_and_leaves_nothing() {
        let web = example("web", 1, true, &[("front", 0)]);
        let mut snapshot = Snapshot::default();
        adopt(&mut snapshot, &web, &pools()).unwrap().unwrap();
        let mut others = [web.clone(), web.clone(), web.clone(), web.clone()];
        others[0].assignment.env += 1;
        others[1].assignment.vip4 = [10, 224, 9, 9].into();
        others[2].assignment.address4 = [10, 209, 0, 9].into();
        others[3].networks.insert("front".into(), 5);
        for mut other in others {
            other.assignment.key.replica = 2;
            let before = snapshot.clone();
            let refused = adopt(&mut snapshot, &other, &pools()).unwrap();
            assert!(refused.is_err(), "{other:?}");
            assert_eq!(snapshot, before);
        }
    }
}
