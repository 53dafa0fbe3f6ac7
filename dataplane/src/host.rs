//! What the machine must have: gathered once ([`HostFacts::gather`]), judged by a pure function
//! ([`check`]), so that every finding has a test and `skepd check` fits one screen.

mod check;
mod gather;
mod installed;
mod mounts;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::docker::EngineInfo;
use crate::netlink::Uplink;
pub use crate::space::Space;

pub use installed::{Installed, InstalledError, Veth, unreadable};

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
    /// skepd does not start, or what it has put into the kernel is not there. Without Docker it starts, and waits for it.
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

/// Whether the pins would be seen by everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bpffs {
    /// No bpffs there.
    Absent,
    /// PID 1 sees the same one.
    Shared,
    /// Of a private mount namespace: the pins would end with it.
    Private,
}

/// What the machine is, as far as Skep cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Effective user id.
    pub uid: u32,
    /// Needed capabilities that the process lacks.
    pub missing_capabilities: Vec<&'static str>,
    /// Release, such as `6.1.0-28-amd64`.
    pub kernel: String,
    /// The kernel has IPv6.
    pub ipv6: bool,
    /// Where the pins would be.
    pub bpffs: Bpffs,
    /// cgroup v2's mount point: `/sys/fs/cgroup`, or `…/unified` on a hybrid machine.
    pub cgroup2: Option<PathBuf>,
    /// Docker, or why not.
    pub docker: Result<EngineInfo, String>,
    /// Devices of default routes, or why they are not known.
    pub uplinks: Result<Vec<Uplink>, String>,
    /// Forwarding is on: IPv4, IPv6.
    pub forwarding: [bool; 2],
    /// Prefixes that routes of other programs lead to, default routes left out.
    pub routes: Vec<IpNet>,
    /// `nft --version`.
    pub nft: Option<String>,
    /// `iptables --version`.
    pub iptables: Option<String>,
    /// `FORWARD` drops by default, as Docker sets it.
    pub forward_drops: bool,
    /// What is left where the state directory is (will be).
    pub state_space: Option<Space>,
    /// Directories that cannot be written, and why.
    pub unwritable: Vec<(PathBuf, String)>,
}

/// The finding about a Docker that does not answer.
pub fn silent_docker(facts: &HostFacts, wanted: &Wanted) -> Option<Finding> {
    facts.docker.is_err().then(|| check::docker(facts, wanted)).into_iter().flatten().next()
}

/// Judges, in the order in which things are needed.
pub fn check(facts: &HostFacts, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = vec![
        check::privileges(facts),
        check::kernel(facts),
        check::ipv6(facts),
        check::bpffs(facts, wanted),
        check::cgroup2(facts),
    ];
    findings.extend(check::docker(facts, wanted));
    findings.extend([
        check::uplinks(facts),
        check::forwarding(facts),
        check::pools(facts, wanted),
        check::firewall(facts),
        check::directories(facts, wanted),
        check::socket_path(wanted),
    ]);
    findings
}
