use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::model::spec::{RestartPolicy, VolumeMount};
use crate::model::{EnvironmentKey, ReplicaKey, ServiceKey};

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
    /// A reference; must be there.
    pub image: String,
    /// What it is, by digest; kept as a label.
    pub pinned: Option<String>,
    /// Overrides the image's CMD.
    pub command: Option<Vec<String>>,
    /// Overrides the image's ENTRYPOINT.
    pub entrypoint: Option<Vec<String>>,
    /// Variables.
    pub environment: BTreeMap<String, String>,
    /// Named volumes.
    pub volumes: Vec<VolumeMount>,
    /// What Docker does when it exits.
    pub restart: RestartPolicy,
    /// The user's labels; Skep's own win.
    pub labels: BTreeMap<String, String>,
    /// Working directory in the container.
    pub working_dir: Option<String>,
    /// User (and group) in the container.
    pub user: Option<String>,
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
