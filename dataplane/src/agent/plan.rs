//! From what should be and what is to what is to be done: a pure function.

use std::collections::BTreeSet;

use dataplane_ebpf::abi::flags;

use super::desired::Desired;
use super::observed::Observed;
use super::op::Op;
use super::tables::{self, TableSet};

mod maps;
mod replica;
#[cfg(test)]
mod tests;

pub(super) use replica::{is_as_assigned, veth_spec, waits_for};

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
    maps::registered(desired, observed, &mut ops);
    maps::published(desired, observed, &published, &mut ops);
    if !observed.sockets_attached {
        ops.push(Op::AttachSockets);
    }
    for (key, replica) in &desired.replicas {
        replica::converge(key, replica, desired, observed, &mut ops);
    }
    let present: BTreeSet<_> = observed.sandboxes.keys().chain(observed.workloads.keys()).collect();
    for key in present.into_iter().filter(|key| !desired.replicas.contains_key(key)) {
        replica::tear_down(key, desired, observed, &mut ops);
    }
    maps::strays(desired, observed, &mut ops);
    ops
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
