//! Containers for commands, each on the node where it was asked for.

use super::super::deploy::Decision;
use super::super::set;
use super::{Step, no_deployment};
use crate::model::{Condition, Deployment, EnvironmentAssignment, OneOff, ReplicaAssignment, ServiceAssignment};
use crate::store::schema::Versioned;
use crate::store::{StoreError, schema};

impl Step<'_> {
    /// Places those of a service, or says why not; deployment and number of those that should be there.
    pub(super) fn one_offs(
        &mut self,
        environment: &EnvironmentAssignment,
        service: &ServiceAssignment,
        decision: &Decision,
    ) -> Result<Vec<(u32, u32)>, StoreError> {
        let state = self.state;
        let mut wanted = Vec::new();
        let can_be = |asked: &OneOff| asked.refused.is_none() && state.nodes.contains_key(&asked.node);
        for asked in state.one_offs_of(&service.key).filter(|asked| can_be(&asked.value)) {
            let key = &asked.value.key;
            wanted.push((key.deployment, key.replica));
            if self.is_full() {
                continue;
            }
            let before = state.replicas.get(key);
            match self.one_off(environment, service, decision, &asked.value, before) {
                Ok(after) => self.assign(before, &after)?,
                Err(condition) => {
                    let after = OneOff { refused: Some(condition), ..asked.value.clone() };
                    set(&mut self.txn, &schema::one_off(key), Some(asked), Some(&after))?;
                }
            }
        }
        Ok(wanted)
    }

    fn one_off(
        &mut self,
        environment: &EnvironmentAssignment,
        service: &ServiceAssignment,
        decision: &Decision,
        asked: &OneOff,
        before: Option<&Versioned<ReplicaAssignment>>,
    ) -> Result<ReplicaAssignment, Condition> {
        let of = decision.deployments.get(&asked.of).ok_or_else(no_deployment)?;
        // It goes on as what it is, whatever becomes of that version.
        let is = before.map(|before| Deployment { spec: before.value.spec.clone(), ..of.clone() });
        self.assigned_replica(environment, service, is.as_ref().unwrap_or(of), before, asked.key.clone())
    }

    /// Takes those away of services and nodes that are gone: nobody else ends them.
    pub(super) fn forget_one_offs(&mut self) -> Result<(), StoreError> {
        let (state, intent) = (self.state, self.intent);
        for (key, asked) in state.one_offs.iter().filter(|(key, _)| key.service.environment == *self.key) {
            let wanted = intent.is_some_and(|intent| intent.services.contains_key(&key.service.service));
            if (!wanted || !state.nodes.contains_key(&asked.value.node)) && !self.is_full() {
                set(&mut self.txn, &schema::one_off(key), Some(asked), None)?;
            }
        }
        Ok(())
    }
}
