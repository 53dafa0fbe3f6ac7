//! Runs of a service that has a schedule.

use super::super::deploy::Decision;
use super::super::schedule::{self, Situation};
use super::super::set;
use super::Step;
use crate::model::{EnvironmentAssignment, ReplicaKey, RunState, Runs, ServiceAssignment};
use crate::store::{StoreError, schema};

impl Step<'_> {
    /// Begins what is due and ends what has ended. [`None`]: the service never had a schedule.
    pub(super) fn runs(
        &mut self,
        environment: &EnvironmentAssignment,
        service: &ServiceAssignment,
        decision: &Decision,
    ) -> Result<Option<Runs>, StoreError> {
        let (state, key) = (self.state, &service.key);
        let before = state.runs.get(key);
        let status = |key: &ReplicaKey| state.status_of(key);
        let clock = self.clock;
        let lost = |key: &ReplicaKey| state.lost_node_of(key, clock);
        let assigned = state.replicas_of_service(key).map(|replica| &replica.value);
        let situation = Situation {
            key,
            deployments: &decision.deployments,
            serving: decision.serving,
            runs: before.map(|before| &before.value),
            replicas: assigned
                .filter(|replica| replica.is_run())
                .map(|replica| (replica.key.deployment, replica.key.replica))
                .collect(),
            status: &status,
            lost: &lost,
            now: clock.wall,
        };
        let Some(mut runs) = schedule::decide(&situation) else { return Ok(None) };
        for run in runs.open_mut() {
            let replica = key.replica(run.deployment, run.number);
            let before = state.replicas.get(&replica);
            let Some(deployment) = decision.deployments.get(&run.deployment).filter(|_| !self.is_full()) else {
                continue;
            };
            match self.assigned_replica(environment, service, deployment, before, replica) {
                Ok(after) => self.assign(before, &after)?,
                // There is no room for it.
                Err(condition) => run.end(RunState::Failed, Some(condition.to_string()), self.clock.wall),
            }
        }
        let next = runs.next.as_ref().map(|next| next.at);
        self.next_run = [self.next_run, next].into_iter().flatten().min();
        set(&mut self.txn, &schema::runs(key), before, Some(&runs))?;
        Ok(Some(runs))
    }
}
