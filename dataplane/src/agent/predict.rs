//! What this node would be after an op: for dry runs, and to prove that plans come to an end.

use std::collections::BTreeSet;

use dataplane_ebpf::abi::Addr;

use super::desired::{Desired, sandbox_digest, workload_digest};
use super::drain::Drain;
use super::health::Well;
use super::mesh::Tunnel;
use super::observed::{Exit, Observed, Sandbox, SandboxState, Workload, WorkloadState};
use super::op::{Op, Step};
use super::plan::{plan, veth_spec};
use super::tables;
use crate::docker::{Health, Role};
use crate::model::{ReplicaAssignment, ReplicaKey};
use crate::netlink::{ObservedVeth, SegmentSize};
use crate::wireguard::PublicKey;

/// More rounds than any chain of dependencies is long; a plan that has not ended by then never will.
const ROUNDS_MAX: usize = 256;

/// Every op until all is as it should be, if each does what it says and connections of what ends do, too.
pub fn simulate(desired: &Desired, observed: &mut Observed) -> Vec<Op> {
    let mut all = Vec::new();
    let ending = desired.replicas.iter().filter(|(_, replica)| replica.ending);
    observed.drains = ending.map(|(key, _)| (key.clone(), Drain { connections: 0, over: true })).collect();
    for _ in 0..ROUNDS_MAX {
        let ops = plan(desired, observed);
        if ops.is_empty() {
            break;
        }
        for op in &ops {
            predict(desired, observed, op);
        }
        all.extend(ops);
    }
    all
}

/// Changes `observed` as the op would.
pub fn predict(desired: &Desired, observed: &mut Observed, op: &Op) {
    let tables = &mut observed.tables;
    match op {
        Op::ConfigureNode(config) => tables.node = **config,
        Op::SetEgress(rules) => tables.egress.clone_from(rules),
        Op::SetLists(lists) => tables.lists.clone_from(lists),
        Op::Register(replica) => register(desired, observed, replica),
        Op::MakeTunnel(_) => {
            observed.tunnel =
                Some(Tunnel { ifindex: u32::MAX, attached: false, changes: Vec::new(), alive: BTreeSet::new() });
        }
        Op::AttachTunnel(_) => {
            if let Some(tunnel) = &mut observed.tunnel {
                tunnel.attached = true;
            }
        }
        Op::ChangeTunnel(change) => {
            if let Some(tunnel) = &mut observed.tunnel {
                tunnel.changes.retain(|wanted| wanted != change);
            }
        }
        Op::RemoveTunnel => observed.tunnel = None,
        Op::MakeNextKey => {
            if let Some(keys) = &mut observed.keys {
                // Whatever it will be.
                keys.next = Some(PublicKey::new([0; 32]));
            }
        }
        Op::SwitchKey => {
            if let Some(keys) = &mut observed.keys {
                keys.present = keys.next.take().unwrap_or(keys.present);
            }
        }
        Op::PutNode(_, id, node) => drop(tables.nodes.insert(*id, *node)),
        Op::DropNode(id) => drop(tables.nodes.remove(id)),
        Op::PutEndpoint(address, endpoint) => drop(tables.endpoints.insert(*address, *endpoint)),
        Op::AttachSockets => observed.sockets_attached = true,
        Op::RestorePin(pin) => drop(observed.missing_pins.remove(pin)),
        Op::Unpin(ifindex) => drop(observed.gone.remove(ifindex)),
        Op::Retire(version) => drop(observed.superseded.remove(version)),
        Op::PutName(_, key, name) => drop(tables.names.insert(**key, *name)),
        Op::DropName(_, key) => drop(tables.names.remove(key.as_ref())),
        Op::PutPtr(_, key, ptr) => drop(tables.ptrs.insert(*key, **ptr)),
        Op::DropPtr(_, key) => drop(tables.ptrs.remove(key)),
        Op::SwitchBackends { keys, set, .. } => {
            tables.services.extend(keys.iter().map(|key| (*key, set.clone())));
        }
        Op::DropService(_, key) => drop(tables.services.remove(key)),
        Op::DropDevice(ifindex) => {
            tables.devices.remove(ifindex);
            tables.budgets.remove(ifindex);
        }
        Op::DropNetns(cookie) => drop(tables.netns.remove(cookie)),
        Op::DropEndpoint(addr) => drop(tables.endpoints.remove(addr)),
        Op::DropGrant(key) => drop(tables.grants.remove(key)),
        Op::DropBackend(key) => drop(tables.loose.remove(key)),
        Op::DropCounters(identity) => drop(tables.counted.remove(identity)),
        Op::RemoveStray(id) => drop(observed.strays.remove(id)),
        Op::RemoveStrayVeth(name) => observed.veths.retain(|_, veth| veth.name != *name),
        Op::Discard(key) => drop(observed.discarded.insert(key.clone())),
        Op::Replica(key, step) => predict_step(desired, observed, key, step),
    }
}

fn predict_step(desired: &Desired, observed: &mut Observed, key: &ReplicaKey, step: &Step) {
    match step {
        Step::Pull(replica) => drop(observed.images.insert(replica.reference().to_owned())),
        Step::CreateSandbox(replica) => {
            let digest = sandbox_digest(replica, &desired.node);
            let sandbox = Sandbox {
                id: format!("sandbox of {key}"),
                state: SandboxState::Created,
                digest,
                paused: false,
                renamed: false,
            };
            observed.sandboxes.insert(key.clone(), sandbox);
        }
        Step::StartSandbox => {
            let cookie = fresh(observed.sandboxes.values().filter_map(Sandbox::cookie));
            if let Some(sandbox) = observed.sandboxes.get_mut(key) {
                sandbox.state = SandboxState::Running { pid: 0, cookie };
            }
        }
        Step::Plumb(replica) => {
            let taken = observed.veths.values().map(|veth| u64::from(veth.ifindex));
            let ifindex = u32::try_from(fresh(taken)).unwrap_or(u32::MAX);
            let spec = veth_spec(replica, key, desired, observed.mtu);
            let veth = ObservedVeth {
                name: spec.name,
                ifindex,
                address4: spec.address4,
                alias: String::new(),
                host_mac: spec.host_mac,
                mtu: spec.mtu,
                up: false,
                segments: SegmentSize::default(),
                tuned: true,
                peer_netns: None,
                carrier: false,
                routes: Vec::new(),
                neighbours: Vec::new(),
            };
            observed.veths.insert(spec.address4, veth);
            // Whatever was wrong in there is right now.
            observed.insides.remove(key);
        }
        Step::Register(replica) => register(desired, observed, replica),
        Step::Attach(replica) => {
            let ifindex = observed.veths.get(&replica.address4).map(|veth| veth.ifindex);
            observed.attached.extend(ifindex);
        }
        Step::Open(replica) => {
            let spec = veth_spec(replica, key, desired, observed.mtu);
            if let Some(veth) = observed.veths.get_mut(&replica.address4) {
                veth.alias = spec.alias;
                (veth.up, veth.carrier, veth.mtu) = (true, true, spec.mtu);
                veth.routes = vec![spec.address4.into(), spec.address6.into()];
                veth.neighbours = veth.routes.iter().map(|address| (*address, spec.mac)).collect();
            }
        }
        Step::CreateWorkload(replica) => {
            let workload = Workload {
                id: format!("workload of {key}"),
                state: WorkloadState::Created,
                sandbox: observed.sandboxes.get(key).map(|sandbox| sandbox.id.clone()).unwrap_or_default(),
                astray: false,
                digest: workload_digest(replica),
                renamed: false,
                image: None,
                pid: None,
            };
            observed.workloads.insert(key.clone(), workload);
        }
        Step::StartWorkload | Step::Resume(Role::Workload) => {
            observed.health.insert(key.clone(), Well::Healthy);
            if let Some(workload) = observed.workloads.get_mut(key) {
                workload.state = WorkloadState::Running(Health::Unchecked);
            }
        }
        Step::Resume(Role::Sandbox) => {
            if let Some(sandbox) = observed.sandboxes.get_mut(key) {
                sandbox.paused = false;
            }
        }
        Step::Rename(Role::Sandbox) => {
            if let Some(sandbox) = observed.sandboxes.get_mut(key) {
                sandbox.renamed = false;
            }
        }
        Step::Rename(Role::Workload) => {
            if let Some(workload) = observed.workloads.get_mut(key) {
                workload.renamed = false;
            }
        }
        Step::StopWorkload => {
            if let Some(workload) = observed.workloads.get_mut(key) {
                workload.state = WorkloadState::Exited { exit: Exit::default(), restarts: 0 };
            }
        }
        Step::RemoveWorkload => drop(observed.workloads.remove(key)),
        Step::Unplumb(name) => observed.veths.retain(|_, veth| veth.name != *name),
        Step::RemoveSandbox => drop(observed.sandboxes.remove(key)),
        Step::Forget { devices, netns, endpoints } => {
            observed.tables.devices.retain(|key, _| !devices.contains(key));
            observed.tables.netns.retain(|key, _| !netns.contains(key));
            observed.tables.endpoints.retain(|key: &Addr, _| !endpoints.contains(key));
        }
    }
}

fn register(desired: &Desired, observed: &mut Observed, replica: &ReplicaAssignment) {
    let Some(registration) = tables::registration(replica, desired, observed) else { return };
    observed.tables.devices.extend([registration.device]);
    observed.tables.netns.extend([registration.netns]);
    observed.tables.endpoints.extend(registration.endpoints);
}

/// A number that none of these is.
fn fresh(taken: impl Iterator<Item = u64>) -> u64 {
    taken.max().unwrap_or(0) + 1
}
