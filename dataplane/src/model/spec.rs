//! Intent: a resolved compose file, nothing left to interpolate, look up or default.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::name::EnvironmentKey;

/// Most networks in one environment: a bit each in a u64.
pub const NETWORKS_MAX: usize = 64;

/// What an environment should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EnvironmentSpec {
    /// Which.
    #[serde(flatten)]
    pub key: EnvironmentKey,
    /// By normalised name.
    pub services: BTreeMap<String, ServiceSpec>,
    /// Every network that a service is in, `default` included.
    pub networks: BTreeMap<String, NetworkSpec>,
    /// Named volumes, as the file names them; Docker's name is `<project>_<environment>_<volume>`.
    pub volumes: BTreeSet<String>,
}

/// A network of an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NetworkSpec {
    /// No way out: a service all of whose networks are internal has no egress.
    pub internal: bool,
}

/// What a service is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceType {
    /// Exposed through the ingress.
    Web,
    /// Keeps data.
    Database,
    /// Keeps data that may be lost.
    Cache,
    /// A worker.
    #[default]
    Service,
}

/// A service of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceSpec {
    /// What it is for.
    #[serde(rename = "type")]
    pub kind: ServiceType,
    /// Image reference as written.
    pub image: String,
    /// Overrides the image's CMD.
    pub command: Option<Vec<String>>,
    /// Overrides the image's ENTRYPOINT.
    pub entrypoint: Option<Vec<String>>,
    /// Variables, `env_file`s already merged in.
    pub environment: BTreeMap<String, String>,
    /// Services of the same environment that come first.
    pub depends_on: BTreeMap<String, DependsOn>,
    /// Networks it is in, never empty, each with its aliases there.
    pub networks: BTreeMap<String, NetworkAttachment>,
    /// Named volumes mounted into it.
    pub volumes: Vec<VolumeMount>,
    /// What Docker does when it exits.
    pub restart: RestartPolicy,
    /// How many replicas.
    pub replicas: u32,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// Working directory in the container.
    pub working_dir: Option<String>,
    /// User (and group) in the container.
    pub user: Option<String>,
}

/// When a dependency is satisfied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DependsOn {
    /// Its containers have been started.
    ServiceStarted,
    /// Its containers are healthy (started, for an image without a health check).
    ServiceHealthy,
}

/// A service in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NetworkAttachment {
    /// Further names there, normalised.
    pub aliases: BTreeSet<String>,
}

/// A named volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VolumeMount {
    /// As in [`EnvironmentSpec::volumes`].
    pub volume: String,
    /// Absolute path in the container.
    pub target: String,
    /// Mounted read-only.
    pub read_only: bool,
}

/// What Docker does when a workload exits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case", tag = "policy", content = "max_retries")]
pub enum RestartPolicy {
    /// Nothing.
    No,
    /// Start it again, always.
    Always,
    /// Start it again unless a person stopped it.
    #[default]
    UnlessStopped,
    /// Start it again when its exit status is not 0, at most so often (0: no limit).
    OnFailure(u32),
}

impl ServiceSpec {
    /// Whether running replicas need no change to be this: only their number may differ.
    pub fn same_deployment(&self, other: &Self) -> bool {
        *self == Self { replicas: self.replicas, ..other.clone() }
    }

    /// Whether one of its networks leads out.
    pub fn has_egress(&self, networks: &BTreeMap<String, NetworkSpec>) -> bool {
        self.networks.keys().any(|name| networks.get(name).is_some_and(|n| !n.internal))
    }
}
