//! The store's content as the controller knows it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::clock::Clock;
use crate::model::allocation::{AddressPool, Ids, PrefixPool};
use crate::model::rollout::Millis;
use crate::model::{
    Ack, Condition, Deployment, DeploymentKey, Discard, EnvironmentAssignment, EnvironmentKey, EnvironmentSpec,
    NodeIntent, NodeRecord, OneOff, Presence, ReplicaAssignment, ReplicaKey, ReplicaState, ReplicaStatus, Runs,
    ServiceAssignment, ServiceKey, TunnelRecord, VolumeAssignment, VolumeKey,
};
use crate::store::schema::{Subject, Versioned, decode};
use crate::store::{Entry, Event, Revision, Store, StoreError};

/// How long a node may be away, after its lease has ended, before its replicas are placed elsewhere: one that is
/// restarted is back sooner.
const LOST_AFTER: Millis = 20_000;

/// Everything that assignments depend on, each value with the revision that wrote it.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The store's revision that this is as of.
    pub revision: Revision,
    /// What people want.
    pub intents: BTreeMap<EnvironmentKey, Versioned<EnvironmentSpec>>,
    /// By node name.
    pub nodes: BTreeMap<String, Versioned<NodeRecord>>,
    /// Those that are there, with what they tell of themselves.
    pub present: BTreeMap<String, Presence>,
    /// What people want of nodes.
    pub node_intents: BTreeMap<String, Versioned<NodeIntent>>,
    /// How each is reached.
    pub tunnels: BTreeMap<String, Versioned<TunnelRecord>>,
    /// Since when, as far as this controller has seen, the others are not: milliseconds since the epoch.
    pub absent: BTreeMap<String, Millis>,
    /// The node that has each volume.
    pub volumes: BTreeMap<VolumeKey, Versioned<VolumeAssignment>>,
    /// Environments' ids.
    pub environments: BTreeMap<EnvironmentKey, Versioned<EnvironmentAssignment>>,
    /// Services' ids and addresses.
    pub services: BTreeMap<ServiceKey, Versioned<ServiceAssignment>>,
    /// Where each replica runs.
    pub replicas: BTreeMap<ReplicaKey, Versioned<ReplicaAssignment>>,
    /// Versions of services.
    pub deployments: BTreeMap<DeploymentKey, Versioned<Deployment>>,
    /// Runs of services that have a schedule.
    pub runs: BTreeMap<ServiceKey, Versioned<Runs>>,
    /// Commands that want a container.
    pub one_offs: BTreeMap<ReplicaKey, Versioned<OneOff>>,
    /// Environments whose volumes and credentials are to go.
    pub discards: BTreeMap<EnvironmentKey, Versioned<Discard>>,
    /// What each node tells of the replicas of which it has something.
    pub statuses: BTreeMap<(ReplicaKey, String), ReplicaStatus>,
    /// Up to where each node has carried out what was decided.
    pub acks: BTreeMap<String, Ack>,
    /// Why an environment is not as wanted.
    pub conditions: BTreeMap<EnvironmentKey, Versioned<Condition>>,
    /// Ids handed out last.
    pub ids: Option<Versioned<Ids>>,
    /// The search for node prefixes.
    pub prefixes: Option<Versioned<PrefixPool>>,
    /// The VIP pool.
    pub vips: Option<Versioned<AddressPool>>,
    /// Replica addresses, by node name.
    pub addresses: BTreeMap<String, Versioned<AddressPool>>,
}

impl State {
    /// Reads it all, as of one revision.
    ///
    /// # Errors
    /// [`StoreError`] when the store can't be read, or a value is not what its key promises.
    pub async fn load(store: &dyn Store) -> Result<Self, StoreError> {
        let range = store.range("/").await?;
        let mut state = Self { revision: range.revision, ..Self::default() };
        for entry in &range.entries {
            state.put(entry)?;
        }
        Ok(state)
    }

    /// Takes an event of the store in.
    ///
    /// # Errors
    /// [`StoreError::Value`] when a value is not what its key promises.
    pub fn apply(&mut self, event: &Event) -> Result<(), StoreError> {
        match event {
            Event::Put(entry) => self.put(entry)?,
            Event::Delete { key, .. } => self.delete(key),
        }
        self.revision = self.revision.max(event.revision());
        Ok(())
    }

    fn put(&mut self, entry: &Entry) -> Result<(), StoreError> {
        // What is not in the schema (an election's key) is none of the controller's business.
        let Some(subject) = Subject::of(&entry.key) else { return Ok(()) };
        match subject {
            Subject::Intent(key) => drop(self.intents.insert(key, decode(entry)?)),
            Subject::Node(name) => drop(self.nodes.insert(name, decode(entry)?)),
            Subject::Presence(name) => {
                self.absent.remove(&name);
                self.present.insert(name, decode(entry)?.value);
            }
            Subject::NodeIntent(name) => drop(self.node_intents.insert(name, decode(entry)?)),
            Subject::Tunnel(name) => drop(self.tunnels.insert(name, decode(entry)?)),
            Subject::Volume(key) => drop(self.volumes.insert(key, decode(entry)?)),
            Subject::Environment(key) => drop(self.environments.insert(key, decode(entry)?)),
            Subject::Service(key) => drop(self.services.insert(key, decode(entry)?)),
            Subject::Replica(_, key) => drop(self.replicas.insert(key, decode(entry)?)),
            Subject::Deployment(key) => drop(self.deployments.insert(key, decode(entry)?)),
            Subject::Status(node, key) => drop(self.statuses.insert((key, node), decode(entry)?.value)),
            Subject::Ack(node) => drop(self.acks.insert(node, decode(entry)?.value)),
            Subject::Condition(key) => drop(self.conditions.insert(key, decode(entry)?)),
            Subject::Addresses(node) => drop(self.addresses.insert(node, decode(entry)?)),
            Subject::Ids => self.ids = Some(decode(entry)?),
            Subject::Prefixes => self.prefixes = Some(decode(entry)?),
            Subject::Vips => self.vips = Some(decode(entry)?),
            Subject::Runs(key) => drop(self.runs.insert(key, decode(entry)?)),
            Subject::OneOff(key) => drop(self.one_offs.insert(key, decode(entry)?)),
            Subject::Discard(key) => drop(self.discards.insert(key, decode(entry)?)),
            Subject::Secret(_)
            | Subject::Login(_)
            | Subject::Content(..)
            | Subject::Pulled(_)
            | Subject::Admission(_)
            | Subject::Invitation(_) => {}
        }
        Ok(())
    }

    fn delete(&mut self, key: &str) {
        let Some(subject) = Subject::of(key) else { return };
        match subject {
            Subject::Intent(key) => drop(self.intents.remove(&key)),
            Subject::Node(name) => drop(self.nodes.remove(&name)),
            Subject::Presence(name) => drop(self.present.remove(&name)),
            Subject::NodeIntent(name) => drop(self.node_intents.remove(&name)),
            Subject::Tunnel(name) => drop(self.tunnels.remove(&name)),
            Subject::Volume(key) => drop(self.volumes.remove(&key)),
            Subject::Environment(key) => drop(self.environments.remove(&key)),
            Subject::Service(key) => drop(self.services.remove(&key)),
            // A replica that moved was put under its new node in the same transaction.
            Subject::Replica(node, key) => {
                if self.replicas.get(&key).is_some_and(|replica| replica.value.node == node) {
                    self.replicas.remove(&key);
                }
            }
            Subject::Deployment(key) => drop(self.deployments.remove(&key)),
            Subject::Status(node, key) => drop(self.statuses.remove(&(key, node))),
            Subject::Ack(node) => drop(self.acks.remove(&node)),
            Subject::Condition(key) => drop(self.conditions.remove(&key)),
            Subject::Addresses(node) => drop(self.addresses.remove(&node)),
            Subject::Ids => self.ids = None,
            Subject::Prefixes => self.prefixes = None,
            Subject::Vips => self.vips = None,
            Subject::Runs(key) => drop(self.runs.remove(&key)),
            Subject::OneOff(key) => drop(self.one_offs.remove(&key)),
            Subject::Discard(key) => drop(self.discards.remove(&key)),
            Subject::Secret(_)
            | Subject::Login(_)
            | Subject::Content(..)
            | Subject::Pulled(_)
            | Subject::Admission(_)
            | Subject::Invitation(_) => {}
        }
    }

    /// Every environment that is wanted or still there.
    pub fn keys(&self) -> BTreeSet<EnvironmentKey> {
        self.intents.keys().chain(self.environments.keys()).chain(self.conditions.keys()).cloned().collect()
    }

    /// The services of an environment, leaving ones included.
    pub fn services_of(&self, key: &EnvironmentKey) -> impl Iterator<Item = &Versioned<ServiceAssignment>> {
        let first = ServiceKey { environment: key.clone(), service: String::new() };
        self.services.range(first..).take_while(|(service, _)| service.environment == *key).map(|(_, value)| value)
    }

    /// The replicas of an environment.
    pub fn replicas_of(&self, key: &EnvironmentKey) -> impl Iterator<Item = &Versioned<ReplicaAssignment>> {
        let service = ServiceKey { environment: key.clone(), service: String::new() };
        let first = service.replica(0, 0);
        self.replicas
            .range(first..)
            .take_while(|(replica, _)| replica.service.environment == *key)
            .map(|(_, value)| value)
    }

    /// The replicas of a service.
    pub fn replicas_of_service(&self, key: &ServiceKey) -> impl Iterator<Item = &Versioned<ReplicaAssignment>> {
        let from = self.replicas.range(key.replica(0, 0)..);
        from.take_while(|(replica, _)| replica.service == *key).map(|(_, value)| value)
    }

    /// The versions of a service.
    pub fn deployments_of(&self, key: &ServiceKey) -> impl Iterator<Item = &Versioned<Deployment>> {
        let from = self.deployments.range(key.deployment(0)..);
        from.take_while(|(deployment, _)| deployment.service == *key).map(|(_, value)| value)
    }

    /// The one-offs of a service.
    pub fn one_offs_of(&self, key: &ServiceKey) -> impl Iterator<Item = &Versioned<OneOff>> {
        let from = self.one_offs.range(key.one_off(0)..);
        from.take_while(|(one_off, _)| one_off.service == *key).map(|(_, value)| value)
    }

    /// What is known of a replica.
    pub fn status_of(&self, key: &ReplicaKey) -> Option<&ReplicaStatus> {
        let assigned =
            self.replicas.get(key).and_then(|replica| self.statuses.get(&(key.clone(), replica.value.node.clone())));
        let first = (key.clone(), String::new());
        assigned
            .or_else(|| self.statuses.range(first..).next().filter(|((of, _), _)| of == key).map(|(_, status)| status))
    }

    /// Whether a replica of the service is assigned, or still there on some node that is not lost.
    pub fn has_replica(&self, key: &ServiceKey, clock: Clock) -> bool {
        let present = (key.replica(0, 0), String::new());
        let told = self.statuses.range(&present..).take_while(|((replica, _), _)| replica.service == *key);
        self.replicas_of_service(key).next().is_some()
            || told.into_iter().any(|((_, node), _)| !self.is_lost(node, clock))
    }

    /// Notes which nodes are not there at `now`, in milliseconds since the epoch.
    pub(super) fn note_absences(&mut self, now: Millis) {
        for name in self.nodes.keys().filter(|name| !self.present.contains_key(*name)) {
            self.absent.entry(name.clone()).or_insert(now);
        }
        self.absent.retain(|name, _| self.nodes.contains_key(name) && !self.present.contains_key(name));
    }

    /// What people want of a node, said or not.
    pub fn node_intent(&self, node: &str) -> Cow<'_, NodeIntent> {
        self.node_intents.get(node).map_or_else(Cow::default, |intent| Cow::Borrowed(&intent.value))
    }

    /// Whether a node has been removed, or away for so long that what it had is to be elsewhere.
    pub fn is_lost(&self, node: &str, clock: Clock) -> bool {
        !self.nodes.contains_key(node) || self.absent.get(node).is_some_and(|since| clock.passed(*since, LOST_AFTER))
    }

    /// The node that a replica is assigned to, if that is lost.
    pub(super) fn lost_node_of(&self, key: &ReplicaKey, clock: Clock) -> Option<&str> {
        self.replicas.get(key).map(|replica| replica.value.node.as_str()).filter(|node| self.is_lost(node, clock))
    }

    /// When the next node will be lost, unless it comes back.
    pub(super) fn next_lost(&self, clock: Clock) -> Option<Millis> {
        self.absent.values().map(|since| clock.since(*since) + LOST_AFTER).filter(|at| *at > clock.now).min()
    }

    /// Whether every node's maps say what the service's assignment says. Nobody waits for one that is lost.
    pub fn is_acknowledged(&self, service: &Versioned<ServiceAssignment>, clock: Clock) -> bool {
        let told = |node: &String| self.acks.get(node).is_some_and(|ack: &Ack| ack.services >= service.revision);
        self.nodes.keys().filter(|node| !self.is_lost(node, clock)).all(told)
    }

    /// What nodes would tell of an environment if they did all they are to: for dry runs. Whether they have not yet.
    pub(super) fn turn_out_well(&mut self, key: &EnvironmentKey) -> bool {
        let mut statuses: BTreeMap<_, _> = self.statuses.clone();
        statuses.retain(|(replica, _), _| replica.service.environment != *key);
        for replica in self.replicas_of(key).map(|replica| &replica.value) {
            let state = if replica.ending { ReplicaState::Stopped } else { ReplicaState::Running };
            let status = ReplicaStatus { state, ..ReplicaStatus::new(replica.key.clone(), &replica.node) };
            statuses.insert((replica.key.clone(), replica.node.clone()), status);
        }
        let acks =
            self.nodes.keys().map(|node| (node.clone(), Ack { services: u64::MAX, tunnels: u64::MAX })).collect();
        let waits = self.statuses != statuses || self.acks != acks;
        (self.statuses, self.acks) = (statuses, acks);
        waits
    }
}
