//! One replica: the pair of containers, its veth, its entries.

use std::net::Ipv4Addr;
use std::sync::Arc;

use dataplane_ebpf::abi::Addr;

use super::super::desired::{Desired, Elsewhere, sandbox_digest, workload_digest};
use super::super::health::Well;
use super::super::mesh;
use super::super::observed::{Exit, Observed, SandboxState, Workload, WorkloadState};
use super::super::op::{Op, Step};
use crate::docker::Role;
use crate::model::spec::{DependsOn, RestartPolicy};
use crate::model::{ReplicaAssignment, ReplicaKey, ServiceKey};
use crate::netlink::{GSO_LEGACY_MAX, VethSpec, veth_name};

/// The entries of DEVICES, NETNS and ENDPOINTS that are a replica's.
#[derive(Debug, Default)]
pub(super) struct Belongings {
    pub(super) devices: Vec<u32>,
    pub(super) netns: Vec<u64>,
    pub(super) endpoints: Vec<Addr>,
}

/// What a replica has, whether it should be or is leaving. What a dead sandbox had is nobody's.
pub(super) fn belongings(key: &ReplicaKey, desired: &Desired, observed: &Observed) -> Belongings {
    let mut all = Belongings::default();
    let cookie = observed.sandboxes.get(key).and_then(|sandbox| sandbox.cookie());
    all.netns.extend(cookie);
    let (address4, address6) = match desired.replicas.get(key) {
        Some(replica) => (replica.address4, Addr::from(replica.address6)),
        None => match cookie.and_then(|cookie| observed.tables.netns.get(&cookie)) {
            Some(netns) => (Ipv4Addr::from(netns.address4.to_ne_bytes()), netns.address6),
            None => return all,
        },
    };
    all.endpoints.extend([Addr::from(address4), address6]);
    all.devices.extend(observed.veths.get(&address4).map(|veth| veth.ifindex));
    all
}

/// What is missing until the replica is as it should be.
pub(super) fn converge(
    key: &ReplicaKey,
    replica: &Arc<ReplicaAssignment>,
    desired: &Desired,
    observed: &Observed,
    ops: &mut Vec<Op>,
) {
    let mut steps = Vec::new();
    let workload_now = observed.workloads.get(key);
    // Its network ended after it: nothing of it is to run again.
    if observed.sandboxes.get(key).is_none_or(|sandbox| sandbox.cookie().is_none())
        && workload_now.is_some_and(|workload| is_as_assigned(workload, replica) && has_ended(workload, replica))
    {
        return;
    }
    let is_here = observed.images.contains(replica.reference()) && !replica.asks_registry();
    if !is_here && !is_current(key, replica, observed) {
        steps.push(Step::Pull(Arc::clone(replica)));
    }
    let sandbox_is_fresh = sandbox(key, replica, desired, observed, &mut steps);
    network(key, replica, desired, observed, sandbox_is_fresh, &mut steps);
    workload(key, replica, desired, observed, sandbox_is_fresh, &mut steps);
    ops.extend(steps.into_iter().map(|step| Op::Replica(key.clone(), step)));
}

/// Whether the workload is there already, so that its image is not needed.
fn is_current(key: &ReplicaKey, replica: &ReplicaAssignment, observed: &Observed) -> bool {
    observed.workloads.get(key).is_some_and(|workload| is_as_assigned(workload, replica))
        && observed.sandboxes.get(key).is_some_and(|sandbox| sandbox.cookie().is_some())
}

/// The sandbox; true when it is to be made anew, and everything in it with it.
fn sandbox(
    key: &ReplicaKey,
    replica: &Arc<ReplicaAssignment>,
    desired: &Desired,
    observed: &Observed,
    steps: &mut Vec<Step>,
) -> bool {
    let sandbox = observed.sandboxes.get(key);
    match sandbox.filter(|sandbox| sandbox.digest == sandbox_digest(replica, &desired.node)).map(|s| s.state) {
        Some(SandboxState::Running { .. }) => {
            steps.extend(sandbox.filter(|sandbox| sandbox.paused).map(|_| Step::Resume(Role::Sandbox)));
            steps.extend(sandbox.filter(|sandbox| sandbox.renamed).map(|_| Step::Rename(Role::Sandbox)));
            return false;
        }
        Some(SandboxState::Created) => {}
        // A sandbox started again has another network namespace, and its workload would keep the old one: the pair
        // is made anew.
        Some(SandboxState::Dead) | None => {
            steps.extend(observed.workloads.get(key).into_iter().flat_map(end));
            if observed.veths.contains_key(&replica.address4) {
                steps.push(Step::Unplumb(veth_name(replica.address4)));
            }
            if sandbox.is_some() {
                steps.push(Step::RemoveSandbox);
            }
            steps.push(Step::CreateSandbox(Arc::clone(replica)));
        }
    }
    steps.push(Step::StartSandbox);
    true
}

/// Device, entries and programs, in the order that leaves no gap: the host's end comes up last.
fn network(
    key: &ReplicaKey,
    replica: &Arc<ReplicaAssignment>,
    desired: &Desired,
    observed: &Observed,
    sandbox_is_fresh: bool,
    steps: &mut Vec<Step>,
) {
    let veth = observed.veths.get(&replica.address4).filter(|_| !sandbox_is_fresh);
    let spec = veth_spec(replica, key, desired, observed.mtu);
    let whole = sandbox_is_fresh || observed.insides.get(key).is_none_or(|inside| inside.lacks(&spec).is_empty());
    if !whole || veth.is_none_or(|veth| veth.up && !veth.carrier) {
        steps.push(Step::Plumb(Arc::clone(replica)));
    }
    if veth.is_none() {
        steps.push(Step::Register(Arc::clone(replica)));
    }
    if veth.is_none_or(|veth| !observed.attached.contains(&veth.ifindex)) {
        steps.push(Step::Attach(Arc::clone(replica)));
    }
    if veth.is_none_or(|veth| !veth.is_as(&spec)) {
        steps.push(Step::Open(Arc::clone(replica)));
    }
}

/// The workload, made as soon as its network is whole and started when those it depends on are ready.
fn workload(
    key: &ReplicaKey,
    replica: &Arc<ReplicaAssignment>,
    desired: &Desired,
    observed: &Observed,
    sandbox_is_fresh: bool,
    steps: &mut Vec<Step>,
) {
    let sandbox = observed.sandboxes.get(key).map(|sandbox| sandbox.id.as_str());
    let workload = observed.workloads.get(key).filter(|_| !sandbox_is_fresh);
    let fits = |workload: &&Workload| {
        is_as_assigned(workload, replica)
            && !workload.astray
            && workload.state != WorkloadState::Leaving
            && Some(workload.sandbox.as_str()) == sandbox
    };
    let workload_fits = workload.filter(fits);
    steps.extend(workload_fits.filter(|workload| workload.renamed).map(|_| Step::Rename(Role::Workload)));
    match workload_fits {
        Some(workload) if workload.state == WorkloadState::Created => {}
        Some(workload) if workload.state == WorkloadState::Paused => return steps.push(Step::Resume(Role::Workload)),
        // It has been started before: whom it depends on may be gone by now.
        Some(workload) if was_stopped(workload, replica) => return steps.push(Step::StartWorkload),
        // Running, ended for good, or restarting, which is Docker's business, with or without skepd.
        Some(_) => return,
        None => {
            steps.extend(workload.into_iter().flat_map(end));
            steps.push(Step::CreateWorkload(Arc::clone(replica)));
        }
    }
    if waits_for(replica, desired, observed).is_none() {
        steps.push(Step::StartWorkload);
    }
}

/// Stops a workload and removes it. One that does not run is not stopped again: a daemon before this one may have done
/// it, and each has to get further than the last.
fn end(workload: &Workload) -> impl Iterator<Item = Step> {
    let runs =
        !matches!(workload.state, WorkloadState::Created | WorkloadState::Exited { .. } | WorkloadState::Leaving);
    runs.then_some(Step::StopWorkload).into_iter().chain([Step::RemoveWorkload])
}

/// Whether somebody ended a workload that should run: where its restart policy would have Docker start it again,
/// only a person's `docker stop` or `docker kill`, or a Docker that went away with it, leaves it ended.
fn was_stopped(workload: &Workload, replica: &ReplicaAssignment) -> bool {
    let WorkloadState::Exited { exit: Exit { status, .. }, restarts } = &workload.state else { return false };
    match replica.spec.restart {
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure(most) => *status != 0 && (most == 0 || *restarts < most),
        RestartPolicy::No => false,
    }
}

/// Whether a workload ended, and nobody is to start it again.
pub(in super::super) fn has_ended(workload: &Workload, replica: &ReplicaAssignment) -> bool {
    matches!(workload.state, WorkloadState::Exited { .. }) && !was_stopped(workload, replica)
}

/// Whether a workload is the one that is assigned.
pub(in super::super) fn is_as_assigned(workload: &Workload, replica: &ReplicaAssignment) -> bool {
    workload.digest == workload_digest(replica)
}

/// The first dependency that is not ready, and what is expected of it.
pub(in super::super) fn waits_for(
    replica: &ReplicaAssignment,
    desired: &Desired,
    observed: &Observed,
) -> Option<(ServiceKey, DependsOn)> {
    let environment = &replica.key.service.environment;
    let dependencies = replica.spec.depends_on.iter();
    let services = dependencies.map(|(service, condition)| {
        (ServiceKey { environment: environment.clone(), service: service.clone() }, *condition)
    });
    services.into_iter().find(|(service, condition)| {
        // Those of a version that does not serve yet, or no more, say nothing of it.
        let served_by = |key| desired.services.get(service).is_some_and(|service| service.is_served_by(key));
        let mut needed = desired.replicas_of(service).filter(|needed| served_by(&needed.key));
        let mut elsewhere = desired.elsewhere_of(service).filter(|(key, _)| served_by(key));
        needed.any(|needed| !is_ready(&needed.key, *condition, observed))
            || elsewhere.any(|(_, needed)| !is_ready_elsewhere(needed, *condition))
    })
}

fn is_ready(key: &ReplicaKey, condition: DependsOn, observed: &Observed) -> bool {
    let Some(workload) = observed.workloads.get(key) else { return false };
    match condition {
        _ if workload.state == WorkloadState::Created => false,
        DependsOn::ServiceStarted => true,
        DependsOn::ServiceHealthy => workload.runs() && observed.health.get(key) == Some(&Well::Healthy),
        DependsOn::ServiceCompletedSuccessfully => {
            matches!(workload.state, WorkloadState::Exited { exit: Exit { status: 0, .. }, .. })
        }
    }
}

fn is_ready_elsewhere(needed: &Elsewhere, condition: DependsOn) -> bool {
    match condition {
        DependsOn::ServiceStarted => needed.well.is_some() || needed.ended,
        DependsOn::ServiceHealthy => needed.well == Some(Well::Healthy),
        DependsOn::ServiceCompletedSuccessfully => needed.ended,
    }
}

/// Whether a replica that ends may be stopped: nobody is connected to it any more, or has been for long enough.
pub(in super::super) fn is_drained(key: &ReplicaKey, observed: &Observed) -> bool {
    !observed.workloads.get(key).is_some_and(Workload::runs) || observed.drains.get(key).is_some_and(|drain| drain.over)
}

/// Whether anything of a replica is left: a container, its device, an entry.
pub(in super::super) fn is_left(replica: &ReplicaAssignment, observed: &Observed) -> bool {
    let addresses = [Addr::from(replica.address4), Addr::from(replica.address6)];
    observed.sandboxes.contains_key(&replica.key)
        || observed.workloads.contains_key(&replica.key)
        || observed.veths.contains_key(&replica.address4)
        || addresses.iter().any(|address| observed.tables.endpoints.contains_key(address))
}

/// Takes a replica away. Backends and names were taken out before; its entries go last, so that it can still
/// answer while it stops.
pub(super) fn tear_down(key: &ReplicaKey, desired: &Desired, observed: &Observed, ops: &mut Vec<Op>) {
    let mut steps: Vec<_> = observed.workloads.get(key).into_iter().flat_map(end).collect();
    let Belongings { devices, netns, endpoints } = belongings(key, desired, observed);
    let veths = observed.veths.values().filter(|veth| devices.contains(&veth.ifindex));
    steps.extend(veths.map(|veth| Step::Unplumb(veth.name.clone())));
    if observed.sandboxes.contains_key(key) {
        steps.push(Step::RemoveSandbox);
    }
    if !endpoints.is_empty() {
        steps.push(Step::Forget { devices, netns, endpoints });
    }
    ops.extend(steps.into_iter().map(|step| Op::Replica(key.clone(), step)));
}

/// The veth pair of a replica.
pub(in super::super) fn veth_spec(
    replica: &ReplicaAssignment,
    key: &ReplicaKey,
    desired: &Desired,
    mtu: u32,
) -> VethSpec {
    // What is longer than the device of a userspace tunnel takes, the stack cuts into as many packets as there will be
    // on the wire, all at once, of which the device drops many.
    let segment_max = if mesh::is_wanted(desired) { GSO_LEGACY_MAX } else { u32::MAX };
    VethSpec { segment_max, ..VethSpec::new(replica.address4, replica.address6, key.to_string(), mtu) }
}
