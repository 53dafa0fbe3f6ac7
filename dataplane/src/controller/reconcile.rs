//! One step from what is assigned to what should be, for one environment, as one transaction.

use std::collections::{BTreeMap, BTreeSet};

use super::allocate::{Allocator, network_bits};
use super::clock::Clock;
use super::deploy::{self, Decision, Situation};
use super::schedule;
use super::set;
use super::state::State;
use crate::model::rollout::Millis;
use crate::model::{
    Condition, EnvironmentAssignment, EnvironmentKey, EnvironmentSpec, Pools, ReplicaKey, ServiceAssignment,
    ServiceKey, ServiceSpec,
};
use crate::store::{StoreError, Txn, schema};

mod one_offs;
mod replicas;
mod runs;

/// About as many assignments go into one step. With their nodes' records they stay under the 128 writes that
/// etcd takes at once.
const WRITES_MAX: usize = 48;
/// So many versions of a service are remembered.
const HISTORY: usize = 20;

/// What is to be done next.
#[derive(Debug, Default)]
pub struct Next {
    /// Nothing in it when all is as it should be for now.
    pub txn: Txn,
    /// When to look again, should nothing happen before: milliseconds since the epoch.
    pub due: Option<Millis>,
    /// When the next run of a service is due. What is wanted does not wait for it.
    pub next_run: Option<Millis>,
}

/// The next step for an environment.
///
/// Pure: the same arguments give the same transaction. It compares the revision of everything that it
/// writes, and of the intent, with those in `state`, so it either fits the store or conflicts.
///
/// # Errors
/// [`StoreError::Value`] when a value has no JSON form.
pub fn reconcile(state: &State, pools: &Pools, key: &EnvironmentKey, clock: Clock) -> Result<Next, StoreError> {
    let intent = state.intents.get(key);
    let mut step = Step {
        state,
        key,
        clock,
        intent: intent.map(|intent| &intent.value),
        allocator: Allocator::new(state, pools, clock),
        txn: Txn::default(),
        condition: None,
        due: None,
        next_run: None,
    };
    if let Some(environment) = step.environment()? {
        step.services(&environment)?;
        step.removals()?;
        step.forget_one_offs()?;
        step.releases()?;
    }
    let next_lost = state.next_lost(clock);
    let (due, next_run) = ([step.due, next_lost].into_iter().flatten().min(), step.next_run);
    let txn = step.finish()?;
    let txn =
        if txn.then.is_empty() { txn } else { txn.when(&schema::intent(key), intent.map(|intent| intent.revision)) };
    Ok(Next { txn, due, next_run })
}

struct Step<'a> {
    state: &'a State,
    key: &'a EnvironmentKey,
    clock: Clock,
    intent: Option<&'a EnvironmentSpec>,
    allocator: Allocator<'a>,
    txn: Txn,
    /// The first thing that stood in the way.
    condition: Option<Condition>,
    due: Option<Millis>,
    next_run: Option<Millis>,
}

impl<'a> Step<'a> {
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
        // Those of versions that are to be replaced are in use until then.
        let state = self.state;
        let used = state.replicas_of(self.key).map(|replica| &replica.value.spec);
        let used = used.chain(state.services_of(self.key).filter(|s| !s.value.leaving).map(|s| &s.value.spec));
        let used = used.flat_map(|spec| spec.networks.keys());
        let wanted: BTreeSet<&String> = intent.networks.keys().chain(used).collect();
        after.networks = network_bits(&after.networks, &mut after.resting, wanted.iter().copied(), self.clock);
        after
    }

    /// Every service that is wanted: its deployments, its assignment, its replicas.
    fn services(&mut self, environment: &EnvironmentAssignment) -> Result<(), StoreError> {
        let wanted = self.intent.map(|intent| &intent.services);
        for (name, spec) in wanted.into_iter().flatten() {
            if self.is_full() {
                break;
            }
            if let Err(condition) = self.service(environment, name, spec)? {
                self.condition.get_or_insert(condition);
            }
        }
        for before in self.state.services_of(self.key) {
            if !wanted.is_some_and(|wanted| wanted.contains_key(&before.value.key.service)) && !self.is_full() {
                let after = ServiceAssignment { leaving: true, ..before.value.clone() };
                set(&mut self.txn, &schema::service(&after.key), Some(before), Some(&after))?;
            }
        }
        Ok(())
    }

    fn service(
        &mut self,
        environment: &EnvironmentAssignment,
        name: &str,
        spec: &ServiceSpec,
    ) -> Result<Result<(), Condition>, StoreError> {
        let state = self.state;
        let key = ServiceKey { environment: self.key.clone(), service: name.to_owned() };
        let before = state.services.get(&key);
        let status = |key: &ReplicaKey| state.status_of(key);
        let clock = self.clock;
        let lost = |key: &ReplicaKey| state.lost_node_of(key, clock);
        // A run whose node is lost keeps its place, which is in nobody's way but the next run's.
        let there = state.replicas_of_service(&key).map(|replica| &replica.value);
        let there = there.filter(|replica| !replica.key.is_one_off());
        let there = there.filter(|replica| !replica.is_run() || lost(&replica.key).is_none());
        let situation = Situation {
            key: &key,
            intent: spec,
            assigned: before.map(|before| &before.value),
            deployments: state.deployments_of(&key).map(|d| (d.value.key.deployment, d.value.clone())).collect(),
            replicas: there.map(|replica| (replica.key.deployment, replica.key.replica)).collect(),
            status: &status,
            lost: &lost,
            acknowledged: before.is_some_and(|before| state.is_acknowledged(before, clock)),
            clock,
        };
        let mut decision = deploy::decide(&situation);
        let mut after = match self.assigned_service(environment, &key, &decision) {
            Ok(after) => after,
            Err(condition) => return Ok(Err(condition)),
        };
        let placed = match self.replicas(environment, &after, &decision)? {
            // There is no room for a new version: the one that serves goes on.
            Err((deployment, condition)) if deployment != after.deployment => {
                decision.fail(&situation, condition.to_string());
                self.assigned_service(environment, &key, &decision).map(|changed| after = changed)
            }
            placed => placed.map_err(|(_, condition)| condition),
        };
        let runs = self.runs(environment, &after, &decision)?;
        let one_offs = self.one_offs(environment, &after, &decision)?;
        let wanted = runs.iter().flat_map(schedule::wanted).chain(decision.wanted()).chain(one_offs).collect();
        self.endings(&key, &wanted, runs.as_ref(), &mut decision)?;
        set(&mut self.txn, &schema::service(&key), before, Some(&after))?;
        self.deployments(&key, &decision)?;
        self.due = [self.due, decision.due].into_iter().flatten().min();
        Ok(placed)
    }

    fn assigned_service(
        &mut self,
        environment: &EnvironmentAssignment,
        key: &ServiceKey,
        decision: &Decision,
    ) -> Result<ServiceAssignment, Condition> {
        let (deployment, next) = (decision.serving, decision.next);
        // While two versions serve, the service is in the networks of both.
        let specs = [Some(deployment), next.map(|next| next.deployment)].into_iter().flatten();
        let specs: Vec<&ServiceSpec> =
            specs.filter_map(|number| decision.deployments.get(&number)).map(|deployment| &deployment.spec).collect();
        let mut networks = 0;
        let mut aliases: BTreeMap<String, u64> = BTreeMap::new();
        for (network, attachment) in specs.iter().flat_map(|spec| &spec.networks) {
            let bit = bits(environment, [network].into_iter())?;
            networks |= bit;
            for alias in &attachment.aliases {
                *aliases.entry(alias.clone()).or_default() |= bit;
            }
        }
        let spec = (*specs.first().ok_or_else(no_deployment)?).clone();
        if let Some(before) = self.state.services.get(key) {
            let before = before.value.clone();
            return Ok(ServiceAssignment { networks, aliases, deployment, next, spec, leaving: false, ..before });
        }
        let (vip4, vip6) = self.allocator.vip()?;
        let (env, id) = (environment.id, self.allocator.service_id());
        let (key, leaving) = (key.clone(), false);
        Ok(ServiceAssignment { key, env, id, vip4, vip6, networks, aliases, deployment, next, spec, leaving })
    }

    /// Writes what became of the deployments. Of those that are over the last ones are kept.
    fn deployments(&mut self, key: &ServiceKey, decision: &Decision) -> Result<(), StoreError> {
        let surplus = decision.deployments.len().saturating_sub(HISTORY);
        for (place, (number, after)) in decision.deployments.iter().enumerate() {
            let before = self.state.deployments.get(&after.key);
            let has_replica = self.state.replicas_of_service(key).any(|r| r.value.key.deployment == *number);
            let is_old = place < surplus && !after.is_open() && *number != decision.serving && !has_replica;
            set(&mut self.txn, &schema::deployment(&after.key), before, Some(after).filter(|_| !is_old))?;
        }
        Ok(())
    }

    /// Takes away the replicas of services that nobody wants any more.
    fn removals(&mut self) -> Result<(), StoreError> {
        for before in self.state.replicas_of(self.key) {
            let key = &before.value.key;
            let wanted = self.intent.is_some_and(|intent| intent.services.contains_key(&key.service.service));
            if wanted || self.is_full() {
                continue;
            }
            set(&mut self.txn, &schema::replica(&before.value.node, key), Some(before), None)?;
            self.allocator.leave(&before.value);
        }
        Ok(())
    }

    /// Lets go of what no node has any more: addresses of replicas, then services and their VIPs.
    fn releases(&mut self) -> Result<(), StoreError> {
        self.allocator.rest(|replica| replica.service.environment == *self.key);
        for before in self.state.services_of(self.key) {
            let service = &before.value;
            let wanted = self.intent.is_some_and(|intent| intent.services.contains_key(&service.key.service));
            if service.leaving && !wanted && !self.state.has_replica(&service.key, self.clock) && !self.is_full() {
                set(&mut self.txn, &schema::service(&service.key), Some(before), None)?;
                for deployment in self.state.deployments_of(&service.key) {
                    set(&mut self.txn, &schema::deployment(&deployment.value.key), Some(deployment), None)?;
                }
                set(&mut self.txn, &schema::runs(&service.key), self.state.runs.get(&service.key), None)?;
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

fn no_deployment() -> Condition {
    Condition { message: "a service has no deployment".into(), remedy: "skepctl up again".into() }
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
