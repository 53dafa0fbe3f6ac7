//! What people are told about a replica.

use super::desired::Desired;
use super::health::Well;
use super::observed::{Exit, Observed, Workload, WorkloadState};
use super::plan::{has_ended, is_left, waits_for};
use crate::docker::workload_name;
use crate::model::spec::DependsOn;
use crate::model::{ReplicaAssignment, ReplicaKey, ReplicaState, ReplicaStatus};

/// So often may Docker start a workload again before it counts as failed; with Docker's pauses that is about 6 s.
const RESTARTS_PATIENCE: u32 = 6;

/// What the agent itself knows beyond what it sees.
#[derive(Debug, Default)]
pub(super) struct Work<'a> {
    /// A step is being done: what it tells.
    pub(super) progress: Option<&'a Progress>,
    /// The last attempt failed.
    pub(super) failure: Option<&'a str>,
    /// So many did, in a row.
    pub(super) attempts: u32,
    /// Connections that were cut when it was stopped.
    pub(super) cut: u32,
}

/// How a step goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) state: ReplicaState,
    pub(super) message: Option<String>,
    /// Connections that it cut.
    pub(super) cut: u32,
}

/// Of a replica that should be.
pub(super) fn of(
    replica: &ReplicaAssignment,
    desired: &Desired,
    observed: &Observed,
    work: &Work<'_>,
) -> ReplicaStatus {
    let workload = observed.workloads.get(&replica.key);
    let (state, message) = state(replica, workload, desired, observed, work);
    let exit = workload.and_then(|workload| match &workload.state {
        WorkloadState::Exited { exit, .. } if has_ended(workload, replica) => Some(exit.status),
        _ => None,
    });
    let (attempts, cut) = (work.attempts, work.cut);
    ReplicaStatus { state, message, attempts, cut, exit, ..bare(&replica.key, desired, observed) }
}

/// A daemon that has just begun knows nothing yet of why a replica is not well; the one before told.
pub(super) fn told_before(status: ReplicaStatus, before: Option<&ReplicaStatus>) -> ReplicaStatus {
    let is_as_before = |before: &&ReplicaStatus| {
        status.state == ReplicaState::Starting && before.state == status.state && before.container == status.container
    };
    let message = status.message.clone().or_else(|| before.filter(is_as_before)?.message.clone());
    ReplicaStatus { message, ..status }
}

/// Of a replica that is leaving.
pub(super) fn of_leaving(key: &ReplicaKey, desired: &Desired, observed: &Observed, work: &Work<'_>) -> ReplicaStatus {
    let message = work.failure.map(ToOwned::to_owned);
    ReplicaStatus { state: ReplicaState::Stopping, message, cut: work.cut, ..bare(key, desired, observed) }
}

fn bare(key: &ReplicaKey, desired: &Desired, observed: &Observed) -> ReplicaStatus {
    ReplicaStatus {
        container: observed.workloads.get(key).map(|workload| workload.id.clone()),
        sandbox: observed.sandboxes.get(key).map(|sandbox| sandbox.id.clone()),
        image: observed.workloads.get(key).and_then(|workload| workload.image.clone()),
        ..ReplicaStatus::new(key.clone(), &desired.node.name)
    }
}

fn state(
    replica: &ReplicaAssignment,
    workload: Option<&Workload>,
    desired: &Desired,
    observed: &Observed,
    work: &Work<'_>,
) -> (ReplicaState, Option<String>) {
    if let Some(progress) = work.progress {
        return (progress.state, progress.message.clone());
    }
    if replica.ending {
        return ending(replica, observed, work.failure);
    }
    if let Some(failure) = work.failure {
        return (ReplicaState::Failed, Some(failure.to_owned()));
    }
    let name = workload_name(&desired.node.name, &replica.key);
    match workload.map(|workload| &workload.state) {
        Some(WorkloadState::Running(_)) if super::tables::runs(replica, desired, observed) => {
            match observed.health.get(&replica.key) {
                Some(Well::Healthy) => (ReplicaState::Running, None),
                Some(Well::Unhealthy { reason }) => (ReplicaState::Unhealthy, Some(reason.clone())),
                Some(Well::Starting { reason }) => (ReplicaState::Starting, reason.clone()),
                None => (ReplicaState::Starting, None),
            }
        }
        Some(WorkloadState::Restarting { exit, restarts }) => {
            let times = if *restarts == 1 { "once".to_owned() } else { format!("{restarts} times") };
            let message = format!("{}; it was started again {times}", told(exit, replica));
            // A service that ends until its database answers is no failure yet.
            let state = if *restarts < RESTARTS_PATIENCE { ReplicaState::Starting } else { ReplicaState::Failed };
            (state, Some(message))
        }
        Some(WorkloadState::Ending) => (ReplicaState::Ended, None),
        Some(WorkloadState::Exited { exit: Exit { status: 0, .. }, .. }) => (ReplicaState::Exited, None),
        Some(WorkloadState::Exited { exit, .. }) => (ReplicaState::Failed, Some(told(exit, replica))),
        Some(WorkloadState::Paused) => (ReplicaState::Failed, Some(format!("it is paused: `docker unpause {name}`"))),
        Some(WorkloadState::Created | WorkloadState::Leaving) | None => match waits_for(replica, desired, observed) {
            Some((service, condition)) => {
                let (state, what) = match condition {
                    DependsOn::ServiceStarted => (ReplicaState::Starting, "start"),
                    DependsOn::ServiceHealthy => (ReplicaState::Starting, "be healthy"),
                    // That takes as long as it takes: its own start does not begin before.
                    DependsOn::ServiceCompletedSuccessfully => (ReplicaState::Pending, "end with status 0"),
                };
                (state, Some(format!("waits for {} to {what}", service.service)))
            }
            None => (ReplicaState::Pending, None),
        },
        Some(WorkloadState::Running(_)) => (ReplicaState::Starting, Some("its network is made anew".into())),
    }
}

/// How a workload ended, for people. Its output is told here, since the container may be gone when they read it.
fn told(exit: &Exit, replica: &ReplicaAssignment) -> String {
    let Exit { status, out_of_memory, last_words } = exit;
    let memory = match (out_of_memory, replica.spec.limits.memory) {
        (false, _) => String::new(),
        (true, None) => ", out of memory".into(),
        (true, Some(bytes)) => format!(", out of memory: it may have {} MiB", bytes >> 20),
    };
    match last_words {
        Some(words) => format!("ended with status {status}{memory}; its last output: {words}"),
        None => format!("ended with status {status}{memory}, without output"),
    }
}

/// Of a replica that is drained, stopped and taken away. What was tried in vain before matters only while something is
/// left.
fn ending(replica: &ReplicaAssignment, observed: &Observed, failure: Option<&str>) -> (ReplicaState, Option<String>) {
    let is_gone = !is_left(replica, observed);
    let open = observed.drains.get(&replica.key).filter(|drain| !drain.over);
    match (is_gone, open.map(|drain| drain.connections)) {
        (true, _) => (ReplicaState::Stopped, None),
        (false, _) if failure.is_some() => (ReplicaState::Stopping, failure.map(str::to_owned)),
        (false, Some(1)) => (ReplicaState::Stopping, Some("one connection has yet to end".into())),
        (false, Some(connections)) => {
            (ReplicaState::Stopping, Some(format!("{connections} connections have yet to end")))
        }
        (false, None) => (ReplicaState::Stopping, None),
    }
}
