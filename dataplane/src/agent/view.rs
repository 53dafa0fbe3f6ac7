//! What the store says to this node: read once, then followed by a watch, so that a look decodes what changed and
//! nothing else. Of the other nodes' replicas only what the maps hold is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _};
use serde::Deserialize;

use super::desired::{Desired, Elsewhere, Node, Peer};
use super::error::AgentError;
use crate::controller::State;
use crate::model::{
    Ack, EnvironmentAssignment, EnvironmentKey, NodeIntent, NodeRecord, ReplicaAssignment, ReplicaKey, ReplicaState,
    ReplicaStatus, ServiceAssignment, ServiceKey, TunnelRecord,
};
use crate::store::schema::{Subject, Versioned, decode};
use crate::store::{Entry, Event, Revision, Store, StoreError, WatchStream};

/// The store, as this node sees it.
pub(super) struct View {
    store: Arc<dyn Store>,
    node: Node,
    followed: Option<(WatchStream, Content)>,
    desired: Option<Arc<Desired>>,
}

/// What was read.
#[derive(Default)]
struct Content {
    environments: BTreeMap<EnvironmentKey, EnvironmentAssignment>,
    services: BTreeMap<ServiceKey, (Revision, Arc<ServiceAssignment>)>,
    replicas: BTreeMap<ReplicaKey, Arc<ReplicaAssignment>>,
    elsewhere: BTreeMap<(ReplicaKey, String), Assigned>,
    /// What other nodes tell of their replicas.
    told: BTreeMap<(ReplicaKey, String), Told>,
    /// What this node told of its own before it was read.
    own: BTreeMap<ReplicaKey, ReplicaStatus>,
    nodes: BTreeMap<String, NodeRecord>,
    tunnels: BTreeMap<String, Versioned<TunnelRecord>>,
    /// Up to where other nodes' tunnels are what records say.
    acks: BTreeMap<String, Revision>,
    /// Which change of this node's key is wanted.
    rotate: u64,
    present: BTreeSet<String>,
    discards: BTreeSet<EnvironmentKey>,
}

/// What this node needs of a [`ReplicaAssignment`] of another.
#[derive(Deserialize)]
struct Assigned {
    env: u32,
    service_id: u32,
    address4: Ipv4Addr,
    address6: Ipv6Addr,
    networks: u64,
}

/// And of a [`ReplicaStatus`].
#[derive(Deserialize)]
struct Told {
    state: ReplicaState,
}

impl From<&ReplicaAssignment> for Assigned {
    fn from(replica: &ReplicaAssignment) -> Self {
        let ReplicaAssignment { env, service_id, address4, address6, networks, .. } = *replica;
        Self { env, service_id, address4, address6, networks }
    }
}

impl View {
    pub(super) fn new(store: Arc<dyn Store>, node: Node) -> Self {
        Self { store, node, followed: None, desired: None }
    }

    /// What this node should be, as of now: the same again as long as nothing of it has changed.
    ///
    /// # Errors
    /// [`AgentError::Store`] when the store cannot be read.
    pub(super) async fn desired(&mut self) -> Result<Arc<Desired>, AgentError> {
        if !self.catch_up().unwrap_or(false) {
            (self.followed, self.desired) = (None, None);
            self.followed = Some(self.read().await?);
        }
        let (_, content) = self.followed.as_ref().ok_or(StoreError::Compacted { after: 0, kept: 0 })?;
        Ok(Arc::clone(self.desired.get_or_insert_with(|| Arc::new(content.desired(&self.node)))))
    }

    /// What was told of this node's replicas before anything was read.
    pub(super) fn told_before(&mut self) -> Option<BTreeMap<ReplicaKey, ReplicaStatus>> {
        let (_, content) = self.followed.as_mut()?;
        Some(std::mem::take(&mut content.own))
    }

    /// Takes in what the watch has; false when everything is to be read again.
    fn catch_up(&mut self) -> Result<bool, StoreError> {
        let Some((watch, content)) = &mut self.followed else { return Ok(false) };
        // What has not come by now rings when it does.
        while let Some(next) = watch.next().now_or_never() {
            let Some(Ok(events)) = next else { return Ok(false) };
            for event in events {
                if content.apply(&event, &self.node.name)? {
                    self.desired = None;
                }
            }
        }
        Ok(true)
    }

    async fn read(&self) -> Result<(WatchStream, Content), StoreError> {
        let range = self.store.range("/").await?;
        let watch = self.store.watch("/", range.revision).await?;
        let mut content = Content::default();
        for entry in &range.entries {
            if let Some(Subject::Status(node, key)) = Subject::of(&entry.key)
                && node == self.node.name
            {
                content.own.insert(key, decode(entry)?.value);
            }
            content.put(entry, &self.node.name)?;
        }
        Ok((watch, content))
    }
}

impl Desired {
    /// What a state of the store says to a node.
    pub fn of(state: &State, node: &Node) -> Self {
        Content::of(state, &node.name).desired(node)
    }
}

impl Content {
    /// What a node would have read of a state.
    fn of(state: &State, here: &str) -> Self {
        let replicas = state.replicas.values().map(|replica| &replica.value);
        let (own, others): (Vec<_>, Vec<_>) = replicas.partition(|replica| replica.node == here);
        let told = state.statuses.iter().filter(|((_, node), _)| node != here);
        let services = state.services.iter();
        Self {
            environments: state.environments.iter().map(|(key, found)| (key.clone(), found.value.clone())).collect(),
            services: services.map(|(key, at)| (key.clone(), (at.revision, Arc::new(at.value.clone())))).collect(),
            replicas: own.into_iter().map(|replica| (replica.key.clone(), Arc::new(replica.clone()))).collect(),
            elsewhere: others.into_iter().map(|of| ((of.key.clone(), of.node.clone()), Assigned::from(of))).collect(),
            told: told.map(|(key, status)| (key.clone(), Told { state: status.state })).collect(),
            own: BTreeMap::new(),
            nodes: state.nodes.iter().map(|(name, node)| (name.clone(), node.value.clone())).collect(),
            tunnels: state.tunnels.clone(),
            acks: state.acks.iter().map(|(name, ack)| (name.clone(), ack.tunnels)).collect(),
            rotate: state.node_intents.get(here).map_or(0, |intent| intent.value.rotate),
            present: state.present.keys().cloned().collect(),
            discards: state.discards.keys().cloned().collect(),
        }
    }

    /// Whether the event concerns this node.
    fn apply(&mut self, event: &Event, here: &str) -> Result<bool, StoreError> {
        match event {
            Event::Put(entry) => self.put(entry, here),
            Event::Delete { key, .. } => Ok(self.delete(key, here)),
        }
    }

    fn put(&mut self, entry: &Entry, here: &str) -> Result<bool, StoreError> {
        let Some(subject) = Subject::of(&entry.key) else { return Ok(false) };
        match subject {
            Subject::Environment(key) => drop(self.environments.insert(key, decode(entry)?.value)),
            Subject::Service(key) => {
                let Versioned { value, revision } = decode(entry)?;
                self.services.insert(key, (revision, Arc::new(value)));
            }
            Subject::Replica(node, key) if node == here => {
                self.replicas.insert(key, Arc::new(decode(entry)?.value));
            }
            Subject::Replica(node, key) => drop(self.elsewhere.insert((key, node), decode(entry)?.value)),
            Subject::Status(node, key) if node != here => {
                let told: Told = decode(entry)?.value;
                let state = told.state;
                return Ok(self.told.insert((key, node), told).is_none_or(|before| before.state != state));
            }
            Subject::Node(name) => drop(self.nodes.insert(name, decode(entry)?.value)),
            Subject::Tunnel(name) => drop(self.tunnels.insert(name, decode(entry)?)),
            Subject::Ack(name) => {
                let Versioned { value: Ack { tunnels, .. }, .. } = decode(entry)?;
                return Ok(self.acks.insert(name, tunnels) != Some(tunnels) && self.is_rotating(here));
            }
            Subject::NodeIntent(name) if name == here => {
                let Versioned { value: NodeIntent { rotate, .. }, .. } = decode(entry)?;
                return Ok(std::mem::replace(&mut self.rotate, rotate) != rotate);
            }
            Subject::Presence(name) => return Ok(self.present.insert(name)),
            Subject::Discard(key) => return Ok(self.discards.insert(key)),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn delete(&mut self, key: &str, here: &str) -> bool {
        let Some(subject) = Subject::of(key) else { return false };
        match subject {
            Subject::Environment(key) => drop(self.environments.remove(&key)),
            Subject::Service(key) => drop(self.services.remove(&key)),
            Subject::Replica(node, key) if node == here => drop(self.replicas.remove(&key)),
            Subject::Replica(node, key) => drop(self.elsewhere.remove(&(key, node))),
            Subject::Status(node, key) if node != here => drop(self.told.remove(&(key, node))),
            Subject::Node(name) => drop(self.nodes.remove(&name)),
            Subject::Tunnel(name) => drop(self.tunnels.remove(&name)),
            Subject::Ack(name) => return self.acks.remove(&name).is_some() && self.is_rotating(here),
            Subject::NodeIntent(name) if name == here => return std::mem::take(&mut self.rotate) != 0,
            Subject::Presence(name) => drop(self.present.remove(&name)),
            Subject::Discard(key) => drop(self.discards.remove(&key)),
            _ => return false,
        }
        true
    }

    /// Whether this node waits for the others to know its next key.
    fn is_rotating(&self, here: &str) -> bool {
        self.tunnels.get(here).is_some_and(|own| own.value.next.is_some())
    }

    fn desired(&self, node: &Node) -> Desired {
        let own = self.tunnels.get(&node.name);
        let elsewhere = self.elsewhere.iter().filter_map(|((key, name), assigned)| {
            let Assigned { env, service_id, address4, address6, networks } = *assigned;
            let node = self.nodes.get(name)?.id;
            let told = self.told.get(&(key.clone(), name.clone())).map(|told| told.state);
            let well = Elsewhere::well(told, name, self.present.contains(name));
            let ended = told == Some(ReplicaState::Exited);
            Some((key.clone(), Elsewhere { node, env, service_id, address4, address6, networks, well, ended }))
        });
        let others = self.nodes.values().filter(|other| other.name != node.name);
        let peer = |other: &NodeRecord| Peer {
            name: other.name.clone(),
            tunnel: self.tunnels.get(&other.name).map(|tunnel| tunnel.value.clone()),
            prefixes: other.prefixes().collect(),
            present: self.present.contains(&other.name),
            knows: own.is_some_and(|own| self.acks.get(&other.name).is_some_and(|told| *told >= own.revision)),
        };
        let tunnels = self.tunnels.iter().filter(|(name, _)| **name != node.name).map(|(_, at)| at.revision);
        Desired {
            node: node.clone(),
            environments: self.environments.clone(),
            revision: self.services.values().map(|(revision, _)| *revision).max().unwrap_or(0),
            services: self.services.iter().map(|(key, (_, service))| (key.clone(), Arc::clone(service))).collect(),
            replicas: self.replicas.clone(),
            elsewhere: elsewhere.collect(),
            peers: others.map(|other| (other.id, peer(other))).collect(),
            tunnels: tunnels.max().unwrap_or(0),
            tunnel: own.map(|own| own.value.clone()),
            rotate: self.rotate,
            discards: self.discards.clone(),
        }
    }
}
