//! The store's content as the controller knows it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::allocation::{AddressPool, Ids, PrefixPool};
use crate::model::{
    Condition, EnvironmentAssignment, EnvironmentKey, EnvironmentSpec, NodeRecord, ReplicaAssignment, ReplicaKey,
    ServiceAssignment, ServiceKey,
};
use crate::store::schema::{Subject, Versioned, decode};
use crate::store::{Entry, Event, Revision, Store, StoreError};

/// Everything that assignments depend on, each value with the revision that wrote it.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The store's revision that this is as of.
    pub revision: Revision,
    /// What people want.
    pub intents: BTreeMap<EnvironmentKey, Versioned<EnvironmentSpec>>,
    /// By node name.
    pub nodes: BTreeMap<String, Versioned<NodeRecord>>,
    /// Environments' ids.
    pub environments: BTreeMap<EnvironmentKey, Versioned<EnvironmentAssignment>>,
    /// Services' ids and addresses.
    pub services: BTreeMap<ServiceKey, Versioned<ServiceAssignment>>,
    /// Where each replica runs.
    pub replicas: BTreeMap<ReplicaKey, Versioned<ReplicaAssignment>>,
    /// Replicas of which a node still has something: its agent reports a status.
    pub present: BTreeSet<(ReplicaKey, String)>,
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
            Subject::Environment(key) => drop(self.environments.insert(key, decode(entry)?)),
            Subject::Service(key) => drop(self.services.insert(key, decode(entry)?)),
            Subject::Replica(_, key) => drop(self.replicas.insert(key, decode(entry)?)),
            Subject::Status(node, key) => drop(self.present.insert((key, node))),
            Subject::Condition(key) => drop(self.conditions.insert(key, decode(entry)?)),
            Subject::Addresses(node) => drop(self.addresses.insert(node, decode(entry)?)),
            Subject::Ids => self.ids = Some(decode(entry)?),
            Subject::Prefixes => self.prefixes = Some(decode(entry)?),
            Subject::Vips => self.vips = Some(decode(entry)?),
        }
        Ok(())
    }

    fn delete(&mut self, key: &str) {
        let Some(subject) = Subject::of(key) else { return };
        match subject {
            Subject::Intent(key) => drop(self.intents.remove(&key)),
            Subject::Node(name) => drop(self.nodes.remove(&name)),
            Subject::Environment(key) => drop(self.environments.remove(&key)),
            Subject::Service(key) => drop(self.services.remove(&key)),
            // A replica that moved was put under its new node in the same transaction.
            Subject::Replica(node, key) => {
                if self.replicas.get(&key).is_some_and(|replica| replica.value.node == node) {
                    self.replicas.remove(&key);
                }
            }
            Subject::Status(node, key) => drop(self.present.remove(&(key, node))),
            Subject::Condition(key) => drop(self.conditions.remove(&key)),
            Subject::Addresses(node) => drop(self.addresses.remove(&node)),
            Subject::Ids => self.ids = None,
            Subject::Prefixes => self.prefixes = None,
            Subject::Vips => self.vips = None,
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
        let first = ReplicaKey { service, replica: 0 };
        self.replicas
            .range(first..)
            .take_while(|(replica, _)| replica.service.environment == *key)
            .map(|(_, value)| value)
    }

    /// Whether a replica of the service is assigned, or still there on some node.
    pub fn has_replica(&self, key: &ServiceKey) -> bool {
        let first = ReplicaKey { service: key.clone(), replica: 0 };
        let assigned = self.replicas.range(&first..).next().is_some_and(|(replica, _)| replica.service == *key);
        let present = (first, String::new());
        assigned || self.present.range(&present..).next().is_some_and(|(replica, _)| replica.service == *key)
    }
}
