//! One step from what is assigned to what should be, for one environment, as one transaction.

use std::collections::BTreeMap;

use super::allocate::{Allocator, network_bits};
use super::set;
use super::state::State;
use crate::model::{
    Condition, EnvironmentAssignment, EnvironmentKey, EnvironmentSpec, Pools, ReplicaAssignment, ReplicaKey,
    ServiceAssignment, ServiceKey, ServiceSpec,
};
use crate::store::schema::Versioned;
use crate::store::{StoreError, Txn, schema};

/// About as many assignments go into one step. With their nodes' records they stay under the 128 writes that
/// etcd takes at once.
const WRITES_MAX: usize = 48;

/// The next step for an environment; nothing in it when all is as it should be.
///
/// Pure: the same arguments give the same transaction. It compares the revision of everything that it
/// writes, and of the intent, with those in `state`, so it either fits the store or conflicts.
///
/// # Errors
/// [`StoreError::Value`] when a value has no JSON form.
pub fn reconcile(state: &State, pools: &Pools, key: &EnvironmentKey, now: u64) -> Result<Txn, StoreError> {
    let intent = state.intents.get(key);
    let mut step = Step {
        state,
        key,
        now,
        intent: intent.map(|intent| &intent.value),
        allocator: Allocator::new(state, pools, now),
        txn: Txn::default(),
        condition: None,
    };
    if let Some(environment) = step.environment()? {
        let services = step.services(&environment)?;
        step.removals()?;
        step.replicas(&environment, &services)?;
        step.releases()?;
    }
    let txn = step.finish()?;
    Ok(if txn.then.is_empty() { txn } else { txn.when(&schema::intent(key), intent.map(|intent| intent.revision)) })
}

struct Step<'a> {
    state: &'a State,
    key: &'a EnvironmentKey,
    now: u64,
    intent: Option<&'a EnvironmentSpec>,
    allocator: Allocator<'a>,
    txn: Txn,
    /// The first thing that stood in the way.
    condition: Option<Condition>,
}

impl Step<'_> {
    /// The environment's ids. [`None`]: it is not wanted, and nothing of it is left.
    fn environment(&mut self) -> Result<Option<EnvironmentAssignment>, StoreError> {
        let before = self.state.environments.get(self.key);
        let after = match (self.intent, before) {
            (Some(intent), before) => Some(self.assigned_environment(intent, before.map(|before| &before.value))),
            (None, Some(before)) if self.state.services_of(self.key).next().is_some() => Some(before.value.clone()),
            (None, _) => None,
        };
        set(&mut self.txn, &schema::environment(self.key), before, after.as_ref())?;
        Ok(after)
    }

    fn assigned_environment(
        &mut self,
        intent: &EnvironmentSpec,
        before: Option<&EnvironmentAssignment>,
    ) -> EnvironmentAssignment {
        let mut after = before.cloned().unwrap_or_else(|| EnvironmentAssignment {
            key: self.key.clone(),
            id: self.allocator.environment_id(),
            networks: BTreeMap::new(),
            resting: BTreeMap::new(),
        });
        after.networks = network_bits(&after.networks, &mut after.resting, intent.networks.keys(), self.now);
        after
    }

    /// The services that are wanted and have all they need.
    fn services(&mut self, environment: &EnvironmentAssignment) -> Result<Vec<ServiceAssignment>, StoreError> {
        let wanted = self.intent.map(|intent| &intent.services);
        let mut assigned = Vec::new();
        for (name, spec) in wanted.into_iter().flatten() {
            if self.is_full() {
                break;
            }
            match self.assigned_service(environment, name, spec) {
                Ok(after) => {
                    let before = self.state.services.get(&after.key);
                    set(&mut self.txn, &schema::service(&after.key), before, Some(&after))?;
                    assigned.push(after);
                }
                Err(condition) => drop(self.condition.get_or_insert(condition)),
            }
        }
        for before in self.state.services_of(self.key) {
            if !wanted.is_some_and(|wanted| wanted.contains_key(&before.value.key.service)) && !self.is_full() {
                let after = ServiceAssignment { leaving: true, ..before.value.clone() };
                set(&mut self.txn, &schema::service(&after.key), Some(before), Some(&after))?;
            }
        }
        Ok(assigned)
    }

    fn assigned_service(
        &mut self,
        environment: &EnvironmentAssignment,
        name: &str,
        spec: &ServiceSpec,
    ) -> Result<ServiceAssignment, Condition> {
        let networks = bits(environment, spec.networks.keys())?;
        let mut aliases: BTreeMap<String, u64> = BTreeMap::new();
        for (network, attachment) in &spec.networks {
            let bit = bits(environment, [network].into_iter())?;
            for alias in &attachment.aliases {
                *aliases.entry(alias.clone()).or_default() |= bit;
            }
        }
        let key = ServiceKey { environment: self.key.clone(), service: name.to_owned() };
        if let Some(before) = self.state.services.get(&key) {
            let before = before.value.clone();
            let deployment = before.deployment + u32::from(!before.spec.same_deployment(spec));
            let spec = spec.clone();
            return Ok(ServiceAssignment { networks, aliases, deployment, spec, leaving: false, ..before });
        }
        let (vip4, vip6) = self.allocator.vip()?;
        let (env, id) = (environment.id, self.allocator.service_id());
        let (spec, leaving) = (spec.clone(), false);
        Ok(ServiceAssignment { key, env, id, vip4, vip6, networks, aliases, deployment: 1, spec, leaving })
    }

    /// Takes away the replicas that nobody wants any more.
    fn removals(&mut self) -> Result<(), StoreError> {
        for before in self.state.replicas_of(self.key) {
            let key = &before.value.key;
            let wanted = self.intent.and_then(|intent| intent.services.get(&key.service.service));
            if wanted.is_some_and(|spec| key.replica <= spec.replicas) || self.is_full() {
                continue;
            }
            set(&mut self.txn, &schema::replica(&before.value.node, key), Some(before), None)?;
            self.allocator.leave(&before.value);
        }
        Ok(())
    }

    /// Brings the replicas there are up to date, and places the missing ones.
    fn replicas(
        &mut self,
        environment: &EnvironmentAssignment,
        services: &[ServiceAssignment],
    ) -> Result<(), StoreError> {
        let Some(intent) = self.intent else { return Ok(()) };
        for service in services {
            let egress = service.spec.has_egress(&intent.networks);
            for replica in 1..=service.spec.replicas {
                if self.is_full() {
                    return Ok(());
                }
                let key = ReplicaKey { service: service.key.clone(), replica };
                let before = self.state.replicas.get(&key);
                match self.assigned_replica(environment, service, before, key, egress) {
                    Ok(after) => {
                        set(&mut self.txn, &schema::replica(&after.node, &after.key), before, Some(&after))?;
                    }
                    Err(condition) => {
                        self.condition.get_or_insert(condition);
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn assigned_replica(
        &mut self,
        environment: &EnvironmentAssignment,
        service: &ServiceAssignment,
        before: Option<&Versioned<ReplicaAssignment>>,
        key: ReplicaKey,
        egress: bool,
    ) -> Result<ReplicaAssignment, Condition> {
        let ServiceAssignment { networks, deployment, vip4, vip6, .. } = *service;
        if let Some(Versioned { value: before, .. }) = before {
            // Within a deployment the specs differ at most in the number of replicas, which is nothing to one.
            let spec = if before.deployment == deployment { &before.spec } else { &service.spec };
            return Ok(ReplicaAssignment { networks, deployment, egress, spec: spec.clone(), ..before.clone() });
        }
        let placed = self.allocator.place(&key)?;
        Ok(ReplicaAssignment {
            key,
            node: placed.node,
            env: environment.id,
            service_id: service.id,
            deployment,
            address4: placed.address4,
            address6: placed.address6,
            vip4,
            vip6,
            networks,
            egress,
            spec: service.spec.clone(),
        })
    }

    /// Lets go of what no node has any more: addresses of replicas, then services and their VIPs.
    fn releases(&mut self) -> Result<(), StoreError> {
        self.allocator.rest(|replica| replica.service.environment == *self.key);
        for before in self.state.services_of(self.key) {
            let service = &before.value;
            let wanted = self.intent.is_some_and(|intent| intent.services.contains_key(&service.key.service));
            if service.leaving && !wanted && !self.state.has_replica(&service.key) && !self.is_full() {
                set(&mut self.txn, &schema::service(&service.key), Some(before), None)?;
                self.allocator.release_vip(service.vip4);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Txn, StoreError> {
        let before = self.state.conditions.get(self.key);
        // A full step says nothing about what stands in the way of the rest.
        if !self.is_full() {
            set(&mut self.txn, &schema::condition(self.key), before, self.condition.as_ref())?;
        }
        self.allocator.finish(&mut self.txn)?;
        Ok(self.txn)
    }

    fn is_full(&self) -> bool {
        self.txn.then.len() >= WRITES_MAX
    }
}

/// The networks as a mask.
fn bits<'n>(
    environment: &EnvironmentAssignment,
    mut networks: impl Iterator<Item = &'n String>,
) -> Result<u64, Condition> {
    networks.try_fold(0, |mask, name| match environment.networks.get(name) {
        Some(bit) => Ok(mask | 1 << bit),
        None => Err(Condition {
            message: format!("network {name} of {} has no bit: 64 are in use or rest after release", environment.key),
            remedy: "use fewer networks, or wait 10 minutes for the bits of removed ones".into(),
        }),
    })
}
