//! What is asked again and again beside the looks: whether replicas are well, who is connected to those that end, and
//! what the paths to the other nodes are like.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Observer;
use crate::agent::desired::Desired;
use crate::agent::drain::Ending;
use crate::agent::health::{Target, Well, well};
use crate::agent::mesh;
use crate::agent::observed::{Observed, SandboxState, WorkloadState};
use crate::model::{ReplicaAssignment, ReplicaKey};

impl Observer {
    /// Asks the replicas that are there from now on, and counts for those that end. `was_well`: whether one was well
    /// under the daemon before this one.
    pub(in super::super) fn follow(
        &self,
        desired: &Desired,
        observed: &Observed,
        was_well: impl Fn(&ReplicaKey) -> bool,
    ) {
        let replicas = || desired.replicas.values().map(AsRef::as_ref);
        let ending = replicas().filter(|replica| replica.ending).filter_map(|replica| {
            let timeout = Duration::from_millis(replica.spec.drain_timeout);
            Some(Ending { key: replica.key.clone(), netns: netns(&replica.key, observed)?, timeout })
        });
        self.drains.follow(ending);
        let wanted = replicas().filter(|replica| !replica.ending).filter_map(|replica| target(replica, observed));
        self.probes.follow(wanted, was_well);
        self.paths.follow(mesh::paths(desired, observed));
    }

    /// What came of it so far.
    pub(in super::super) fn senses(&self, desired: &Desired, observed: &mut Observed) {
        observed.drains = desired
            .replicas
            .iter()
            .filter(|(_, replica)| replica.ending)
            .filter_map(|(key, _)| Some((key.clone(), self.drains.state(key)?)))
            .collect();
        observed.paths = self.paths.mtus();
        let health = |(key, replica): (&ReplicaKey, &std::sync::Arc<ReplicaAssignment>)| {
            let WorkloadState::Running(docker) = observed.workloads.get(key)?.state else { return None };
            let is_asked = replica.spec.probe.is_some() && replica.spec.port.is_some();
            let probed = self.probes.state(key).or_else(|| is_asked.then(Default::default));
            Some((key.clone(), well(docker, probed.as_ref())))
        };
        observed.health = desired.replicas.iter().filter_map(health).collect::<BTreeMap<ReplicaKey, Well>>();
    }
}

fn target(replica: &ReplicaAssignment, observed: &Observed) -> Option<Target> {
    let workload = observed.workloads.get(&replica.key).filter(|workload| workload.runs())?;
    Some(Target {
        key: replica.key.clone(),
        incarnation: format!("{} {}", workload.id, workload.pid.unwrap_or_default()),
        netns: netns(&replica.key, observed)?,
        address: (replica.address4, replica.spec.port?).into(),
        probe: replica.spec.probe.clone()?,
    })
}

/// The file of its network namespace.
pub(in super::super) fn netns(key: &ReplicaKey, observed: &Observed) -> Option<PathBuf> {
    match observed.sandboxes.get(key)?.state {
        SandboxState::Running { pid, .. } => Some(format!("/proc/{pid}/ns/net").into()),
        SandboxState::Created | SandboxState::Dead => None,
    }
}
