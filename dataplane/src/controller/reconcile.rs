//! One step from what is assigned to what should be, for one environment, as one transaction.

use std::collections::{BTreeMap, BTreeSet};

use super::allocate::{Allocator, Placed, network_bits};
use super::clock::Clock;
use super::deploy::{self, Decision, Situation};
use super::set;
use super::state::State;
use crate::model::assignment::RELEASE_TASK;
use crate::model::rollout::Millis;
use crate::model::{
    Condition, Deployment, EnvironmentAssignment, EnvironmentKey, EnvironmentSpec, Pools, ReplicaAssignment,
    ReplicaKey, ReplicaState, ServiceAssignment, ServiceKey, ServiceSpec,
};
use crate::store::schema::Versioned;
use crate::store::{StoreError, Txn, schema};

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
        allocator: Allocator::new(state, pools, clock.now / 1000),
        txn: Txn::default(),
        condition: None,
        due: None,
        next_run: None,
    };
    if let Some(environment) = step.environment()? {
        step.services(&environment)?;
        step.removals()?;
        step.releases()?;
    }
    let next_lost = state.next_lost(clock.now);
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
        after.networks =
            network_bits(&after.networks, &mut after.resting, wanted.iter().copied(), self.clock.now / 1000);
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
        let situation = Situation {
            key: &key,
            intent: spec,
            assigned: before.map(|before| &before.value),
            deployments: state.deployments_of(&key).map(|d| (d.value.key.deployment, d.value.clone())).collect(),
            replicas: state.replicas_of_service(&key).map(|r| (r.value.key.deployment, r.value.key.replica)).collect(),
            status: &status,
            acknowledged: before.is_some_and(|before| state.is_acknowledged(before, self.clock.now)),
            clock: self.clock,
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
        let mut wanted = self.runs(environment, &after, &decision)?;
        wanted.extend(decision.wanted());
        self.endings(&key, &wanted, &mut decision)?;
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

    /// Brings the replicas that are wanted up to date, and places the missing ones. Else the deployment for which there
    /// is no room, and why.
    fn replicas(
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
            match self.assigned_replica(environment, service, deployment, before, key) {
                Ok(after) if before.is_none() => placed.push(after),
                Ok(_) if self.is_full() => {}
                Ok(after) if before.is_some_and(|before| before.value.node != after.node) => {
                    self.moves(before, &after)?;
                }
                Ok(after) => set(&mut self.txn, &schema::replica(&after.node, &after.key), before, Some(&after))?,
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
            set(&mut self.txn, &schema::replica(&after.node, &after.key), None, Some(&after))?;
        }
        Ok(refused)
    }

    fn assigned_replica(
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
                Err(_) => stays,
            });
        }
        let placed = self.allocator.place(&key, &deployment.spec)?;
        let spec = if key.replica == RELEASE_TASK { spec.release_task() } else { spec.clone() };
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

    /// Takes a replica from the node that it was on, and puts it on another.
    fn moves(
        &mut self,
        before: Option<&Versioned<ReplicaAssignment>>,
        after: &ReplicaAssignment,
    ) -> Result<(), StoreError> {
        if let Some(before) = before {
            set(&mut self.txn, &schema::replica(&before.value.node, &after.key), Some(before), None)?;
            self.allocator.leave(&before.value);
        }
        set(&mut self.txn, &schema::replica(&after.node, &after.key), None, Some(after))
    }

    /// Whether its node is lost, and it may be elsewhere: no volume of its own keeps it there.
    fn is_to_move(&self, replica: &ReplicaAssignment) -> bool {
        self.state.is_lost(&replica.node, self.clock.now) && replica.spec.volumes.is_empty()
    }

    /// Has the replicas that are not wanted any more end, and takes away those that have.
    fn endings(
        &mut self,
        key: &ServiceKey,
        wanted: &BTreeSet<(u32, u32)>,
        decision: &mut Decision,
    ) -> Result<(), StoreError> {
        for before in self.state.replicas_of_service(key) {
            let replica = &before.value;
            if wanted.contains(&(replica.key.deployment, replica.key.replica)) || self.is_full() {
                continue;
            }
            let status = self.state.status_of(&replica.key).filter(|status| status.state == ReplicaState::Stopped);
            let store_key = schema::replica(&replica.node, &replica.key);
            // Nobody hears when one on a lost node has ended; its address waits for the node.
            let lost = self.state.is_lost(&replica.node, self.clock.now);
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
            if service.leaving && !wanted && !self.state.has_replica(&service.key, self.clock.now) && !self.is_full() {
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
