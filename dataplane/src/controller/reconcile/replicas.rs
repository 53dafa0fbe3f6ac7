//! The replicas of one service: where each one is, what it is, and when it goes.

use std::collections::BTreeSet;

use super::super::allocate::Placed;
use super::super::deploy::Decision;
use super::super::set;
use super::{Step, WRITES_MAX, bits};
use crate::model::assignment::RELEASE_TASK;
use crate::model::{
    Condition, Deployment, EnvironmentAssignment, ReplicaAssignment, ReplicaKey, ReplicaState, Runs, ServiceAssignment,
    ServiceKey,
};
use crate::store::schema::Versioned;
use crate::store::{StoreError, schema};

impl Step<'_> {
    /// Brings the replicas that are wanted up to date, and places the missing ones. Else the deployment for which there
    /// is no room, and why.
    pub(super) fn replicas(
        &mut self,
        environment: &EnvironmentAssignment,
        service: &ServiceAssignment,
        decision: &Decision,
    ) -> Result<Result<(), (u32, Condition)>, StoreError> {
        let (mut placed, mut refused): (Vec<ReplicaAssignment>, _) = (Vec::new(), Ok(()));
        for (deployment, replica) in decision.wanted() {
            let key = service.key.replica(deployment, replica);
            let Some(deployment) = decision.deployments.get(&deployment) else { continue };
            let before = self.state.replicas.get(&key);
            // Asked first: what is placed is written, or taken back.
            if before.is_some() && self.is_full() {
                continue;
            }
            match self.assigned_replica(environment, service, deployment, before, key) {
                Ok(after) if before.is_none() => placed.push(after),
                Ok(after) => self.assign(before, &after)?,
                Err(condition) => {
                    refused = Err((deployment.key.deployment, condition));
                    break;
                }
            }
        }
        // A new version comes whole or not at all; what is too much for one transaction comes in the next.
        let failed = refused.as_ref().err().map(|(of, _)| *of).filter(|of| *of != service.deployment);
        let (mut placed, failed): (Vec<_>, Vec<_>) = placed.into_iter().partition(|r| failed != Some(r.key.deployment));
        let later = placed.split_off(WRITES_MAX.saturating_sub(self.txn.then.len()).min(placed.len()));
        later.iter().chain(&failed).rev().for_each(|replica| self.allocator.take_back(replica));
        for after in placed {
            self.assign(None, &after)?;
        }
        Ok(refused)
    }

    pub(super) fn assigned_replica(
        &mut self,
        environment: &EnvironmentAssignment,
        service: &ServiceAssignment,
        deployment: &Deployment,
        before: Option<&Versioned<ReplicaAssignment>>,
        key: ReplicaKey,
    ) -> Result<ReplicaAssignment, Condition> {
        let (spec, ending) = (&deployment.spec, false);
        let networks = bits(environment, spec.networks.keys())?;
        let declared = self.intent.map(|intent| &intent.networks);
        let egress = declared.is_some_and(|declared| spec.has_egress(declared));
        if let Some(Versioned { value: before, .. }) = before {
            // What its networks were like is not known any more: they are not in the file.
            let known = spec.networks.keys().all(|name| declared.is_some_and(|declared| declared.contains_key(name)));
            let egress = if known { egress } else { before.egress };
            // Within a deployment the specs differ at most in the number of replicas, which is nothing to one.
            // Should its container have to be made again, it is of the same bits.
            let image = before.image.clone().or_else(|| deployment.image.clone());
            let stays = ReplicaAssignment { networks, egress, ending, image, ..before.clone() };
            if !self.is_to_move(before) {
                return Ok(stays);
            }
            // With nowhere to go it waits for its node.
            return Ok(match self.allocator.place(&key, &stays.spec) {
                Ok(Placed { node, address4, address6 }) => ReplicaAssignment { node, address4, address6, ..stays },
                Err(why) => {
                    let message = format!("{key} was on node {}, which is lost, and {}", stays.node, why.message);
                    self.condition.get_or_insert(Condition { message, ..why });
                    stays
                }
            });
        }
        let spec = match &key {
            key if key.is_one_off() => spec.one_off(),
            key if key.replica == RELEASE_TASK => spec.release_task(),
            _ => spec.clone(),
        };
        let placed = match self.state.one_offs.get(&key) {
            Some(asked) => self.allocator.place_on(&asked.value.node, &key, &spec)?,
            None => self.allocator.place(&key, &deployment.spec)?,
        };
        Ok(ReplicaAssignment {
            key,
            node: placed.node,
            env: environment.id,
            service_id: service.id,
            address4: placed.address4,
            address6: placed.address6,
            vip4: service.vip4,
            vip6: service.vip6,
            networks,
            egress,
            spec,
            image: deployment.image.clone(),
            ending,
        })
    }

    /// Writes where a replica is and what it is. One that goes to another node is taken from the one that it was on.
    pub(super) fn assign(
        &mut self,
        before: Option<&Versioned<ReplicaAssignment>>,
        after: &ReplicaAssignment,
    ) -> Result<(), StoreError> {
        let (left, stayed) = match before {
            Some(before) if before.value.node != after.node => (Some(before), None),
            stayed => (None, stayed),
        };
        if let Some(left) = left {
            set(&mut self.txn, &schema::replica(&left.value.node, &after.key), Some(left), None)?;
            self.allocator.leave(&left.value);
        }
        set(&mut self.txn, &schema::replica(&after.node, &after.key), stayed, Some(after))
    }

    /// Whether its node is lost, and it may be elsewhere: no volume of its own keeps it there, and it is not one of
    /// those of which there must never be two. The node may be there all the same, and only nothing be heard of it.
    fn is_to_move(&self, replica: &ReplicaAssignment) -> bool {
        let runs_once = replica.is_passing() || replica.key.replica == RELEASE_TASK;
        self.state.is_lost(&replica.node, self.clock) && replica.spec.volumes.is_empty() && !runs_once
    }

    /// Has the replicas that are not wanted any more end, and takes away those that have.
    pub(super) fn endings(
        &mut self,
        key: &ServiceKey,
        wanted: &BTreeSet<(u32, u32)>,
        runs: Option<&Runs>,
        decision: &mut Decision,
    ) -> Result<(), StoreError> {
        for before in self.state.replicas_of_service(key) {
            let replica = &before.value;
            if wanted.contains(&(replica.key.deployment, replica.key.replica)) || self.is_full() {
                continue;
            }
            let status = self.state.status_of(&replica.key).filter(|status| status.state == ReplicaState::Stopped);
            let store_key = schema::replica(&replica.node, &replica.key);
            // A run that may still go on keeps its place until its node has ended it, or is forgotten: it is what keeps
            // the next one from being begun.
            let goes_on = self.state.nodes.contains_key(&replica.node)
                && runs.is_some_and(|runs| runs.lost(replica.key.deployment, replica.key.replica));
            // Of others nobody hears when one on a lost node has ended; its address waits for the node.
            let lost = self.state.is_lost(&replica.node, self.clock) && !goes_on;
            let cut = status.filter(|_| replica.ending).map(|status| status.cut).or(lost.then_some(0));
            match cut {
                Some(cut) => {
                    if let Some(deployment) = decision.deployments.get_mut(&replica.key.deployment) {
                        deployment.cut += cut;
                    }
                    set(&mut self.txn, &store_key, Some(before), None)?;
                    self.allocator.leave(replica);
                }
                None => {
                    let after = ReplicaAssignment { ending: true, ..replica.clone() };
                    set(&mut self.txn, &store_key, Some(before), Some(&after))?;
                }
            }
        }
        Ok(())
    }
}
