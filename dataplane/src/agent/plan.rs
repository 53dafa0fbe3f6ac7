//! From what should be and what is to what is to be done: a pure function.

use std::collections::BTreeSet;

use dataplane_ebpf::abi::flags;

use super::desired::Desired;
use super::mesh;
use super::observed::Observed;
use super::op::{Op, Step};
use super::tables::{self, TableSet};
use crate::model::{EnvironmentKey, ReplicaKey};

mod maps;
mod replica;
#[cfg(test)]
mod tests;

pub(super) use replica::{has_ended, is_as_assigned, is_left, veth_spec, waits_for};

/// What is to be done, in an order that is safe at every point: what ends leaves backends and names before it is
/// stopped, and nothing of a replica runs before its network is closed.
///
/// What must first have happened (a workload becoming a backend when it runs) comes out of the next call, when
/// it has. No op means that all is as it should be.
pub fn plan(desired: &Desired, observed: &Observed) -> Vec<Op> {
    let mut ops = Vec::new();
    let published = tables::publish(desired, observed);
    ops.extend(observed.missing_pins.iter().cloned().map(Op::RestorePin));
    maps::node(desired, observed, &mut ops);
    mesh::plan(desired, observed, &mut ops);
    maps::registered(desired, observed, &mut ops);
    maps::elsewhere(desired, observed, &mut ops);
    maps::published(desired, observed, &published, &mut ops);
    if !observed.sockets_attached {
        ops.push(Op::AttachSockets);
    }
    for (key, replica) in desired.replicas.iter().filter(|(_, replica)| !replica.ending) {
        replica::converge(key, replica, desired, observed, &mut ops);
    }
    let ends = |key: &ReplicaKey| match desired.replicas.get(key) {
        Some(replica) => replica.ending && replica::is_drained(key, observed),
        None => true,
    };
    // A daemon may have died between the removal of the last container and that of the entries.
    let left = desired.replicas.iter().filter(|(_, replica)| replica.ending && is_left(replica, observed));
    let present = observed.sandboxes.keys().chain(observed.workloads.keys());
    let present: BTreeSet<_> = present.chain(left.map(|(key, _)| key)).collect();
    for key in present.into_iter().filter(|key| ends(key)) {
        replica::tear_down(key, desired, observed, &mut ops);
    }
    maps::strays(desired, observed, &mut ops);
    ops.extend(discards(desired, observed).into_iter().map(Op::Discard));
    ops
}

/// Environments of which nothing is left but what they stored. One that is there again keeps it.
fn discards(desired: &Desired, observed: &Observed) -> Vec<EnvironmentKey> {
    if desired.discards.is_empty() {
        return Vec::new();
    }
    let present = observed.sandboxes.keys().chain(observed.workloads.keys()).map(|key| &key.service.environment);
    let present: BTreeSet<&EnvironmentKey> = present.chain(desired.environments.keys()).collect();
    let discards = desired.discards.difference(&observed.discarded);
    discards.filter(|key| !present.contains(key)).cloned().collect()
}

/// What of a plan can be done while Docker does not answer. Before it has ever told of containers (`known`), that is
/// what holds for the node whatever runs.
pub(super) fn without_docker(ops: Vec<Op>, known: bool) -> Vec<Op> {
    let of_docker = |op: &Op| match op {
        Op::RemoveStray(_) | Op::Discard(_) => true,
        // The others have to be told of a key, and nothing is written meanwhile.
        Op::MakeNextKey | Op::SwitchKey => true,
        Op::Replica(_, step) => !matches!(step, Step::Plumb(_) | Step::Register(_) | Step::Attach(_) | Step::Open(_)),
        _ => false,
    };
    // The steps of one replica build on each other: all, or none.
    let waiting: BTreeSet<_> = ops.iter().filter(|op| of_docker(op)).map(Op::subject).collect();
    let of_the_node = |op: &Op| {
        matches!(
            op,
            Op::ConfigureNode(_)
                | Op::SetEgress(_)
                | Op::SetLists(_)
                | Op::PutEndpoint(..)
                | Op::MakeTunnel(_)
                | Op::AttachTunnel(_)
                | Op::ChangeTunnel(_)
                | Op::PutNode(..)
                | Op::DropNode(_)
                | Op::AttachSockets
                | Op::PutName(..)
                | Op::DropName(..)
                | Op::PutPtr(..)
                | Op::DropPtr(..)
        )
    };
    let can_be = |op: &Op| match op {
        Op::Replica(..) => known && !waiting.contains(&op.subject()),
        _ => !of_docker(op) && (known || of_the_node(op)),
    };
    ops.into_iter().filter(can_be).collect()
}

/// Takes workloads that ended out of the backend sets that `last` led to, before everything is looked at again: with
/// many containers a look takes time, and clients would be sent to the dead meanwhile.
pub(super) fn withdraw(desired: &Desired, last: &Observed, ended: &BTreeSet<String>) -> Vec<Op> {
    let mut observed = last.clone();
    observed.workloads.retain(|_, workload| !ended.contains(&workload.id));
    if observed.workloads.len() == last.workloads.len() {
        return Vec::new();
    }
    let (before, after) = (tables::publish(desired, last), tables::publish(desired, &observed));
    maps::switches(desired, &after, &before)
}

/// Whether a change of policy makes flows of the old one invalid: a network or the way out taken from a replica
/// that lives on.
fn narrows(desired: &Desired, observed: &Observed, tables: &TableSet) -> bool {
    desired.replicas.values().any(|replica| {
        let Some(registration) = tables::registration(replica, desired, observed) else { return false };
        let Some(now) = tables.devices.get(&registration.device.0) else { return false };
        let wanted = registration.device.1;
        let lost_networks = now.networks & !wanted.networks != 0;
        let lost_egress = now.flags & !wanted.flags & flags::EGRESS != 0;
        now.identity == wanted.identity && (lost_networks || lost_egress)
    })
}
