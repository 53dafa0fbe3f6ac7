use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::model::settings::Identity;
use crate::model::{EnvironmentKey, ReplicaKey, ServiceKey, ServiceSpec};

/// The container that owns a replica's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSpec {
    /// Whose.
    pub key: ReplicaKey,
    /// This node.
    pub node: String,
    /// Digest of everything that, when changed, needs a new sandbox; kept as a label.
    pub config: String,
    /// The replica's own.
    pub address4: Ipv4Addr,
    /// The replica's own.
    pub address6: Ipv6Addr,
    /// The service's.
    pub vip4: Ipv4Addr,
    /// The service's.
    pub vip6: Ipv6Addr,
    /// Cluster DNS address.
    pub dns: Ipv4Addr,
    /// What it knows of itself and others.
    pub identity: Identity,
    /// The kernel's parameters for its network.
    pub sysctls: BTreeMap<String, String>,
}

/// The container that runs the user's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadSpec {
    /// Whose.
    pub key: ReplicaKey,
    /// This node.
    pub node: String,
    /// Digest of everything that, when changed, needs a new workload; kept as a label.
    pub config: String,
    /// What `skepd repair` takes the replica back by, kept as a label.
    pub record: String,
    /// Container id of the sandbox whose network namespace it shares.
    pub sandbox: String,
    /// What its image is, by digest; kept as a label.
    pub pinned: Option<String>,
    /// What to run; its image must be there. Skep's own labels win over its labels.
    pub service: ServiceSpec,
}

/// Container name of a workload.
pub fn workload_name(node: &str, key: &ReplicaKey) -> String {
    let ReplicaKey { service: ServiceKey { environment, service }, deployment, replica } = key;
    let EnvironmentKey { project, environment } = environment;
    format!("skep-{node}-{project}-{environment}-{service}-{deployment}-{replica}")
}

/// Container name of a sandbox.
pub fn sandbox_name(node: &str, key: &ReplicaKey) -> String {
    format!("{}-sandbox", workload_name(node, key))
}

/// Docker's name of a named volume of an environment.
pub fn volume_name(environment: &EnvironmentKey, volume: &str) -> String {
    format!("{}_{}_{volume}", environment.project, environment.environment)
}
