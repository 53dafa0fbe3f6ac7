//! The node's maps, by difference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dataplane_ebpf::abi::{self, Addr, Identity};

use super::super::desired::{Desired, Elsewhere};
use super::super::observed::Observed;
use super::super::op::{Op, Place};
use super::super::tables::{self, TableSet};
use crate::model::ServiceKey;

/// NODE, EGRESS, EGRESS_LISTS and GRANTS.
pub(super) fn node(desired: &Desired, observed: &Observed, ops: &mut Vec<Op>) {
    let now = &observed.tables;
    ops.extend(now.grants.iter().map(|key| Op::DropGrant(*key)));
    let rules = tables::egress_rules(&desired.node.config.listed_egress);
    let egress_changes = rules != now.egress;
    let epoch = match !now.egress.is_empty() && egress_changes || super::narrows(desired, observed, now) {
        true => now.node.epoch.wrapping_add(1),
        false => now.node.epoch,
    };
    let config = tables::node_config(desired, observed, epoch);
    if config != now.node {
        ops.push(Op::ConfigureNode(Box::new(config)));
    }
    if egress_changes {
        ops.push(Op::SetEgress(rules));
    }
    let lists = tables::egress_lists(desired);
    if lists != now.lists {
        ops.push(Op::SetLists(lists));
    }
}

/// DEVICES, NETNS and ENDPOINTS of the replicas that are plumbed: before the programs that read them are attached.
pub(super) fn registered(desired: &Desired, observed: &Observed, ops: &mut Vec<Op>) {
    for replica in desired.replicas.values() {
        let registration = tables::registration(replica, desired, observed);
        if registration.is_some_and(|registration| !registration.is_in(&observed.tables)) {
            ops.push(Op::Register(Arc::clone(replica)));
        }
    }
}

/// ENDPOINTS of the other nodes' replicas: before anybody is sent to them.
pub(super) fn elsewhere(desired: &Desired, observed: &Observed, ops: &mut Vec<Op>) {
    let now = &observed.tables.endpoints;
    let puts = tables::elsewhere(desired).filter(|(address, endpoint)| now.get(address) != Some(endpoint));
    ops.extend(puts.map(|(address, endpoint)| Op::PutEndpoint(address, endpoint)));
}

/// SERVICES, BACKENDS, NAMES, PTRS. Backends go before names, so that a removed service is refused at once.
pub(super) fn published(desired: &Desired, observed: &Observed, wanted: &TableSet, ops: &mut Vec<Op>) {
    let now = &observed.tables;
    ops.extend(switches(desired, wanted, now));
    let places = Places::new(desired);
    let gone = now.services.keys().filter(|key| !wanted.services.contains_key(key));
    ops.extend(gone.map(|key| Op::DropService(places.of(key.env), *key)));

    let puts = wanted.names.iter().filter(|(key, value)| now.names.get(key) != Some(value));
    ops.extend(puts.map(|(key, value)| Op::PutName(places.of(key.env), Box::new(*key), *value)));
    let gone = now.names.keys().filter(|key| !wanted.names.contains_key(key));
    ops.extend(gone.map(|key| Op::DropName(places.of(key.env), Box::new(*key))));

    let puts = wanted.ptrs.iter().filter(|(key, value)| now.ptrs.get(key) != Some(value));
    ops.extend(puts.map(|(key, value)| Op::PutPtr(places.of(key.env), *key, Box::new(*value))));
    let gone = now.ptrs.keys().filter(|key| !wanted.ptrs.contains_key(key));
    ops.extend(gone.map(|key| Op::DropPtr(places.of(key.env), *key)));
}

/// Environments' names by id.
struct Places(BTreeMap<u32, Place>);

impl Places {
    fn new(desired: &Desired) -> Self {
        let environments = desired.environments.values();
        Self(environments.map(|environment| (environment.id, environment.key.to_string().into())).collect())
    }

    fn of(&self, id: u32) -> Place {
        self.0.get(&id).cloned().unwrap_or_else(|| format!("environment {id}").into())
    }
}

/// One switch per service whose entry differs under any of its VIPs.
pub(super) fn switches(desired: &Desired, wanted: &TableSet, now: &TableSet) -> Vec<Op> {
    let names: BTreeMap<u32, &ServiceKey> = desired.services.values().map(|s| (s.id, &s.key)).collect();
    let mut keys: BTreeMap<u32, Vec<abi::ServiceKey>> = BTreeMap::new();
    let mut differ = BTreeSet::new();
    for (key, set) in &wanted.services {
        keys.entry(set.service).or_default().push(*key);
        if now.services.get(key) != Some(set) {
            differ.insert(set.service);
        }
    }
    let mut ops = Vec::new();
    for (service, keys) in keys.into_iter().filter(|(service, _)| differ.contains(service)) {
        let Some(set) = keys.first().and_then(|key| wanted.services.get(key)).cloned() else { continue };
        let name = names.get(&service).map(ToString::to_string).unwrap_or_default();
        ops.push(Op::SwitchBackends { keys, set, name });
    }
    ops
}

/// Containers, devices and entries that belong to no replica, neither one that should be nor one that is leaving.
pub(super) fn strays(desired: &Desired, observed: &Observed, ops: &mut Vec<Op>) {
    ops.extend(observed.gone.iter().map(|ifindex| Op::Unpin(*ifindex)));
    ops.extend(observed.superseded.iter().map(|version| Op::Retire(*version)));
    ops.extend(observed.strays.iter().map(|id| Op::RemoveStray(id.clone())));
    let mut owned = Owned::default();
    for key in observed.sandboxes.keys().chain(observed.workloads.keys()).chain(desired.replicas.keys()) {
        owned.add(&super::replica::belongings(key, desired, observed));
    }
    owned.endpoints.extend(desired.elsewhere.values().flat_map(Elsewhere::addresses));
    for (address, veth) in &observed.veths {
        let wanted = desired.replicas.values().any(|replica| replica.address4 == *address);
        if !wanted && !owned.devices.contains(&veth.ifindex) {
            ops.push(Op::RemoveStrayVeth(veth.name.clone()));
        }
    }
    let now = &observed.tables;
    let known: BTreeSet<_> =
        desired.services.values().map(|service| Identity { env: service.env, service: service.id }).collect();
    // What nobody sent is counted too.
    let gone = now.counted.iter().filter(|identity| **identity != Identity::WORLD && !known.contains(identity));
    ops.extend(gone.map(|identity| Op::DropCounters(*identity)));
    let devices: BTreeSet<_> = now.devices.keys().chain(&now.budgets).collect();
    ops.extend(devices.into_iter().filter(|k| !owned.devices.contains(k)).map(|k| Op::DropDevice(*k)));
    ops.extend(now.netns.keys().filter(|k| !owned.netns.contains(k)).map(|k| Op::DropNetns(*k)));
    ops.extend(now.endpoints.keys().filter(|k| !owned.endpoints.contains(k)).map(|k| Op::DropEndpoint(*k)));
    ops.extend(now.loose.iter().map(|key| Op::DropBackend(*key)));
}

#[derive(Default)]
struct Owned {
    devices: BTreeSet<u32>,
    netns: BTreeSet<u64>,
    endpoints: BTreeSet<Addr>,
}

impl Owned {
    fn add(&mut self, belongings: &super::replica::Belongings) {
        self.devices.extend(&belongings.devices);
        self.netns.extend(&belongings.netns);
        self.endpoints.extend(&belongings.endpoints);
    }
}
