//! What the machine must have: gathered once ([`HostFacts::gather`]), judged by a pure function
//! ([`check`]), so that every finding has a test and `skepd check` fits one screen.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::docker::EngineInfo;

/// The part of the configuration that is checked against the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `--state-dir`.
    pub state_dir: PathBuf,
    /// `--run-dir`.
    pub run_dir: PathBuf,
    /// `--bpffs`.
    pub bpffs: PathBuf,
    /// `--docker`.
    pub docker: String,
    /// `--container-pool4`.
    pub container_pool4: Ipv4Net,
    /// `--container-pool6`.
    pub container_pool6: Ipv6Net,
    /// `--vip-pool4`.
    pub vip_pool4: Ipv4Net,
    /// `--vip-pool6`.
    pub vip_pool6: Ipv6Net,
    /// Cluster DNS address.
    pub dns: Ipv4Addr,
}

/// How bad.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, with a consequence that the text names.
    Warn,
    /// skepd does not start.
    Error,
}

/// One line of `skepd check`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Finding {
    /// How bad.
    pub level: Level,
    /// What was looked at and what is so.
    pub what: String,
    /// The exact command or line that mends it; `None` when nothing needs mending.
    pub remedy: Option<String>,
}

/// What the machine is, as far as Skep cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Docker, or why not.
    pub docker: Result<EngineInfo, String>,
    /// cgroup v2's mount point: `/sys/fs/cgroup`, or `…/unified` on a hybrid machine.
    pub cgroup2: Option<PathBuf>,
    /// Prefixes of the host's routes, all tables but local, default and skepd's own left out.
    pub routes: Vec<IpNet>,
}

impl HostFacts {
    /// Looks; fails never: what cannot be read is a fact too.
    pub async fn gather(wanted: &Wanted) -> Self {
        let _ = wanted;
        unimplemented!()
    }
}

/// Judges, in the order in which things are needed.
pub fn check(facts: &HostFacts, wanted: &Wanted) -> Vec<Finding> {
    let _ = (facts, wanted);
    unimplemented!()
}
