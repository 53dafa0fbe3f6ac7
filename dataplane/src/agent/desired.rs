//! What this node should be, as the controller assigned it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Config;
use crate::model::{
    EnvironmentAssignment, EnvironmentKey, ReplicaAssignment, ReplicaKey, ServiceAssignment, ServiceKey,
};
use crate::store::Revision;

/// Everything that [`super::plan()`] wants to be true.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// This node.
    pub node: Node,
    /// Environments with their networks.
    pub environments: BTreeMap<EnvironmentKey, EnvironmentAssignment>,
    /// Services with their VIPs.
    pub services: BTreeMap<ServiceKey, ServiceAssignment>,
    /// Revision of the last change of one of these.
    pub revision: Revision,
    /// Replicas of this node.
    pub replicas: BTreeMap<ReplicaKey, Arc<ReplicaAssignment>>,
}

/// What holds for the node as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Id.
    pub id: u32,
    /// Pools, DNS address.
    pub config: Arc<Config>,
}

impl Desired {
    /// The replicas of a service on this node.
    pub fn replicas_of<'a>(&'a self, service: &'a ServiceKey) -> impl Iterator<Item = &'a Arc<ReplicaAssignment>> {
        let first = service.replica(0, 0);
        let from = self.replicas.range(first..);
        from.take_while(move |(key, _)| key.service == *service).map(|(_, replica)| replica)
    }
}

/// A digest of what a workload is made of: another one means another container. What is only about the
/// service as a whole (how many, after whom, in which networks) is left out: it changes no container.
pub fn workload_digest(replica: &ReplicaAssignment) -> String {
    let mut spec = replica.spec.clone();
    spec.replicas = 0;
    spec.depends_on.clear();
    spec.networks.clear();
    digest(&spec)
}

/// A digest of what a sandbox is made of.
pub fn sandbox_digest(replica: &ReplicaAssignment, node: &Node) -> String {
    let addresses = (replica.address4, replica.address6, replica.vip4, replica.vip6);
    digest(&(&replica.key, addresses, node.config.dns()))
}

/// FNV-1a over the JSON, in hexadecimal: the values are the operator's own, an accidental change is what must show.
fn digest(value: &impl serde::Serialize) -> String {
    let json = serde_json::to_vec(value).unwrap_or_default();
    let hash = json
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}
