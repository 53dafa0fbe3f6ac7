//! How a service's containers are set up, where its image does not say it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::ServiceSpec;

/// Of the workload: everything but its network. What is usual is left out when it is written: containers are known by a
/// digest of it, and those of earlier versions must not be made anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Settings {
    /// A process that reaps orphans and passes signals on comes first.
    #[serde(skip_serializing_if = "is_usual")]
    pub init: bool,
    /// Capabilities beside Docker's default set, as `IPC_LOCK`.
    #[serde(skip_serializing_if = "is_usual")]
    pub cap_add: BTreeSet<String>,
    /// Capabilities that it is not to have; `ALL`: none but those added.
    #[serde(skip_serializing_if = "is_usual")]
    pub cap_drop: BTreeSet<String>,
    /// No program in it gains rights by being started.
    #[serde(skip_serializing_if = "is_usual")]
    pub no_new_privileges: bool,
    /// Its image's files can't be written to.
    #[serde(skip_serializing_if = "is_usual")]
    pub read_only: bool,
    /// Size of `/dev/shm` in bytes; [`None`]: Docker's 64 MiB.
    #[serde(skip_serializing_if = "is_usual")]
    pub shm_size: Option<u64>,
    /// File systems in memory: where, and their mount options.
    #[serde(skip_serializing_if = "is_usual")]
    pub tmpfs: BTreeMap<String, String>,
    /// Limits of each process, by name as `nofile`.
    #[serde(skip_serializing_if = "is_usual")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Groups, by name or number, that its process is in beside its user's.
    #[serde(skip_serializing_if = "is_usual")]
    pub group_add: Vec<String>,
    /// How likely the kernel kills it when memory runs out, from 0 to 1000.
    #[serde(skip_serializing_if = "is_usual")]
    pub oom_score_adj: Option<i32>,
    /// Parameters of the kernel that each container has for itself; `net.*` are set in its network.
    #[serde(skip_serializing_if = "is_usual")]
    pub sysctls: BTreeMap<String, String>,
    /// What becomes of its output; [`None`]: what Docker does, in files that are rotated.
    #[serde(skip_serializing_if = "is_usual")]
    pub logging: Option<Logging>,
    /// What it is called inside, and what it calls others.
    #[serde(skip_serializing_if = "is_usual")]
    pub identity: Identity,
}

/// What a container knows of itself and others beside the private network's names. Docker keeps it with the network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Identity {
    /// Its host name; [`None`]: service and number of the replica.
    #[serde(skip_serializing_if = "is_usual")]
    pub hostname: Option<String>,
    /// Its domain.
    #[serde(skip_serializing_if = "is_usual")]
    pub domainname: Option<String>,
    /// Further lines of its hosts file.
    #[serde(skip_serializing_if = "is_usual")]
    #[schema(value_type = BTreeMap<String, Vec<String>>)]
    pub extra_hosts: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Domains that names are looked for in, after the private network's own.
    #[serde(skip_serializing_if = "is_usual")]
    pub search: Vec<String>,
}

/// A limit of each process. -1: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Ulimit {
    /// What a process may raise itself up to `hard`.
    pub soft: i64,
    /// What it has at most.
    pub hard: i64,
}

/// One of Docker's log drivers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Logging {
    /// [`None`]: the engine's own.
    pub driver: Option<String>,
    /// The driver's.
    pub options: BTreeMap<String, String>,
}

impl ServiceSpec {
    /// Kernel parameters of the network namespace, or all others.
    pub fn sysctls(&self, of_network: bool) -> impl Iterator<Item = (&String, &String)> {
        self.settings.sysctls.iter().filter(move |(name, _)| name.starts_with("net.") == of_network)
    }
}

/// Whether nothing was said.
pub(super) fn is_usual<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
