//! The store's content as the controller knows it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::allocation::{AddressPool, Ids, PrefixPool};
use crate::model::{
    Condition, EnvironmentAssignment, EnvironmentKey, EnvironmentSpec, NodeRecord, ReplicaAssignment, ReplicaKey,
    ServiceAssignment, ServiceKey,
};
use crate::store::Revision;
use crate::store::schema::Versioned;

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
    /// Replicas of which a node still has something.
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
