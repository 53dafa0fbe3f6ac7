//! Every key of the store, with the type of its value. Values are JSON.
//!
//! ```text
//! /intent/<project>/<environment>                                    EnvironmentSpec        written by the API
//! /nodes/<node>                                                      NodeRecord             by the node, prefixes by the controller
//! /node-intents/<node>                                               NodeIntent             by the API
//! /tunnels/<node>                                                    TunnelRecord           by the node
//! /admissions/<node>                                                 Admission              by the node that let it in
//! /invitations/<id>                                                  Invitation             by the node that invites, sealed
//! /present/<node>                                                    Presence               by the node, under a lease
//! /assignments/environments/<project>/<environment>                  EnvironmentAssignment  by the controller
//! /assignments/services/<project>/<environment>/<service>            ServiceAssignment      by the controller
//! /assignments/volumes/<project>/<environment>/<volume>              VolumeAssignment       by the controller, removed by its agent
//! /assignments/replicas/<node>/<project>/<environment>/<service>/<d>/<n> ReplicaAssignment  by the controller
//! /deployments/<project>/<environment>/<service>/<d>                 Deployment             by the controller
//! /allocations/ids                                                   Ids                    by the controller
//! /allocations/prefixes                                              PrefixPool             by whoever takes a prefix
//! /allocations/vips                                                  AddressPool            by the controller
//! /allocations/addresses/<node>                                      AddressPool            by the controller
//! /conditions/<project>/<environment>                                Condition              by the controller
//! /status/<node>/<project>/<environment>/<service>/<d>/<n>           ReplicaStatus          by the node's agent
//! /acks/<node>                                                       Ack                    by the node's agent
//! /secrets/<project>/<environment>/<service>                         KeptCredentials        by the controller, sealed
//! /secrets/files/<project>/<environment>/<digest>                    Content                by the API, sealed
//! /secrets/registries/<registry>                                     RegistryLogin          by the API, sealed
//! /runs/<project>/<environment>/<service>                            Runs                   by the controller
//! /one-offs/<project>/<environment>/<service>/<n>                    OneOff                 by the API, refused by the controller
//! /discards/<project>/<environment>                                  Discard                by the API, removed by the agent
//! /pulled/<node>                                                     Pulled                 by the node's agent, less by the API
//! ```
//! Names in keys are normalised, so they hold no `/`; node names are checked where they enter.

use serde::de::IgnoredAny;

use super::seal::Sealed;
use crate::model::allocation::{AddressPool, Ids, PrefixPool};
use crate::model::file::Content;
use crate::model::{
    Ack, Admission, Condition, Deployment, DeploymentKey, Discard, EnvironmentAssignment, EnvironmentKey,
    EnvironmentSpec, Invitation, KeptCredentials, NodeIntent, NodeRecord, OneOff, Presence, Pulled, RegistryLogin,
    ReplicaAssignment, ReplicaKey, ReplicaStatus, Runs, ServiceAssignment, ServiceKey, TunnelRecord, VolumeAssignment,
    VolumeKey,
};

mod subject;
mod typed;

pub use subject::{Subject, replica_of};
pub use typed::{Key, Prefix, Versioned, decode, get_json, range_json};

/// Whatever the controller assigns: the prefix of keys with several types of values, for watches.
pub const ASSIGNMENTS: &str = "/assignments/";

/// What people want of an environment.
pub fn intent(key: &EnvironmentKey) -> Key<EnvironmentSpec> {
    Key::new(format!("/intent/{}/{}", key.project, key.environment))
}

/// What people want of every environment.
pub fn intents() -> Prefix<EnvironmentSpec> {
    Prefix::new("/intent/".into())
}

/// A node.
pub fn node(name: &str) -> Key<NodeRecord> {
    Key::new(format!("/nodes/{name}"))
}

/// Every node.
pub fn nodes() -> Prefix<NodeRecord> {
    Prefix::new("/nodes/".into())
}

/// What people want of a node.
pub fn node_intent(name: &str) -> Key<NodeIntent> {
    Key::new(format!("/node-intents/{name}"))
}

/// How a node is reached.
pub fn tunnel(node: &str) -> Key<TunnelRecord> {
    Key::new(format!("/tunnels/{node}"))
}

/// How every node is reached.
pub fn tunnels() -> Prefix<TunnelRecord> {
    Prefix::new("/tunnels/".into())
}

/// That a node may come.
pub fn admission(node: &str) -> Key<Admission> {
    Key::new(format!("/admissions/{node}"))
}

/// Every node that may come.
pub fn admissions() -> Prefix<Admission> {
    Prefix::new("/admissions/".into())
}

/// That somebody may become a node.
pub fn invitation(id: &str) -> Key<Sealed<Invitation>> {
    Key::new(format!("/invitations/{id}"))
}

/// Whoever may become a node.
pub fn invitations() -> Prefix<Sealed<Invitation>> {
    Prefix::new("/invitations/".into())
}

/// That a node is there.
pub fn presence(node: &str) -> Key<Presence> {
    Key::new(format!("/present/{node}"))
}

/// That nodes are there.
pub fn presences() -> Prefix<Presence> {
    Prefix::new("/present/".into())
}

/// An environment's ids.
pub fn environment(key: &EnvironmentKey) -> Key<EnvironmentAssignment> {
    Key::new(format!("/assignments/environments/{}/{}", key.project, key.environment))
}

/// Every environment's ids.
pub fn environments() -> Prefix<EnvironmentAssignment> {
    Prefix::new("/assignments/environments/".into())
}

/// A service's ids and addresses.
pub fn service(key: &ServiceKey) -> Key<ServiceAssignment> {
    let EnvironmentKey { project, environment } = &key.environment;
    Key::new(format!("/assignments/services/{project}/{environment}/{}", key.service))
}

/// Every service's ids and addresses.
pub fn services() -> Prefix<ServiceAssignment> {
    Prefix::new("/assignments/services/".into())
}

/// Where a volume is.
pub fn volume(key: &VolumeKey) -> Key<VolumeAssignment> {
    let EnvironmentKey { project, environment } = &key.environment;
    Key::new(format!("/assignments/volumes/{project}/{environment}/{}", key.volume))
}

/// Where an environment's volumes are.
pub fn volumes_of(key: &EnvironmentKey) -> Prefix<VolumeAssignment> {
    Prefix::new(format!("/assignments/volumes/{}/{}/", key.project, key.environment))
}

/// A replica on a node.
pub fn replica(node: &str, key: &ReplicaKey) -> Key<ReplicaAssignment> {
    Key::new(format!("/assignments/replicas/{node}/{}", replica_path(key)))
}

/// The replicas of one node.
pub fn replicas_of(node: &str) -> Prefix<ReplicaAssignment> {
    Prefix::new(format!("/assignments/replicas/{node}/"))
}

/// Every node's replicas.
pub fn replicas() -> Prefix<ReplicaAssignment> {
    Prefix::new("/assignments/replicas/".into())
}

/// A version of a service.
pub fn deployment(key: &DeploymentKey) -> Key<Deployment> {
    let ServiceKey { environment: EnvironmentKey { project, environment }, service } = &key.service;
    Key::new(format!("/deployments/{project}/{environment}/{service}/{}", key.deployment))
}

/// Every version of every service that is remembered.
pub fn deployments() -> Prefix<Deployment> {
    Prefix::new("/deployments/".into())
}

/// Up to where a node has carried out what was decided.
pub fn ack(node: &str) -> Key<Ack> {
    Key::new(format!("/acks/{node}"))
}

/// The credentials of an environment's services.
pub fn secrets_of(key: &EnvironmentKey) -> Prefix<Sealed<KeptCredentials>> {
    Prefix::new(format!("/secrets/{}/{}/", key.project, key.environment))
}

/// The ids last handed out.
pub fn ids() -> Key<Ids> {
    Key::new("/allocations/ids".into())
}

/// The search for node prefixes.
pub fn prefixes() -> Key<PrefixPool> {
    Key::new("/allocations/prefixes".into())
}

/// The VIP pool.
pub fn vips() -> Key<AddressPool> {
    Key::new("/allocations/vips".into())
}

/// A node's replica addresses.
pub fn addresses(node: &str) -> Key<AddressPool> {
    Key::new(format!("/allocations/addresses/{node}"))
}

/// Every node's replica addresses.
pub fn all_addresses() -> Prefix<AddressPool> {
    Prefix::new("/allocations/addresses/".into())
}

/// Why an environment is not as people want it.
pub fn condition(key: &EnvironmentKey) -> Key<Condition> {
    Key::new(format!("/conditions/{}/{}", key.project, key.environment))
}

/// Every such reason.
pub fn conditions() -> Prefix<Condition> {
    Prefix::new("/conditions/".into())
}

/// A replica as its node sees it.
pub fn status(node: &str, key: &ReplicaKey) -> Key<ReplicaStatus> {
    Key::new(format!("/status/{node}/{}", replica_path(key)))
}

/// Every replica as one node sees it.
pub fn statuses_of(node: &str) -> Prefix<ReplicaStatus> {
    Prefix::new(format!("/status/{node}/"))
}

/// Every replica as its node sees it.
pub fn statuses() -> Prefix<ReplicaStatus> {
    Prefix::new("/status/".into())
}

/// A service's credentials.
pub fn secret(key: &ServiceKey) -> Key<Sealed<KeptCredentials>> {
    let EnvironmentKey { project, environment } = &key.environment;
    Key::new(format!("/secrets/{project}/{environment}/{}", key.service))
}

/// What a file of an environment holds.
pub fn content(environment: &EnvironmentKey, name: &str) -> Key<Sealed<Content>> {
    Key::new(format!("/secrets/files/{}/{}/{name}", environment.project, environment.environment))
}

/// What all files of an environment hold.
pub fn contents_of(environment: &EnvironmentKey) -> Prefix<Sealed<Content>> {
    Prefix::new(format!("/secrets/files/{}/{}/", environment.project, environment.environment))
}

/// What all files of all environments hold.
pub fn contents() -> Prefix<Sealed<Content>> {
    Prefix::new("/secrets/files/".into())
}

/// Whatever is sealed: every service's credentials, every login to a registry, every file's content.
pub fn secrets() -> Prefix<Sealed<IgnoredAny>> {
    Prefix::new("/secrets/".into())
}

/// Whom a registry knows us as.
pub fn login(registry: &str) -> Key<Sealed<RegistryLogin>> {
    Key::new(format!("/secrets/registries/{registry}"))
}

/// A service's runs.
pub fn runs(key: &ServiceKey) -> Key<Runs> {
    let EnvironmentKey { project, environment } = &key.environment;
    Key::new(format!("/runs/{project}/{environment}/{}", key.service))
}

/// That a command wants a container, by the replica that it is.
pub fn one_off(key: &ReplicaKey) -> Key<OneOff> {
    let ServiceKey { environment: EnvironmentKey { project, environment }, service } = &key.service;
    Key::new(format!("/one-offs/{project}/{environment}/{service}/{}", key.replica))
}

/// Every command that wants a container.
pub fn one_offs() -> Prefix<OneOff> {
    Prefix::new("/one-offs/".into())
}

/// That an environment's volumes and credentials are to go.
pub fn discard(key: &EnvironmentKey) -> Key<Discard> {
    Key::new(format!("/discards/{}/{}", key.project, key.environment))
}

/// Every environment whose volumes and credentials are to go.
pub fn discards() -> Prefix<Discard> {
    Prefix::new("/discards/".into())
}

/// The images that a node has pulled.
pub fn pulled(node: &str) -> Key<Pulled> {
    Key::new(format!("/pulled/{node}"))
}

fn replica_path(key: &ReplicaKey) -> String {
    let ServiceKey { environment: EnvironmentKey { project, environment }, service } = &key.service;
    format!("{project}/{environment}/{service}/{}/{}", key.deployment, key.replica)
}
