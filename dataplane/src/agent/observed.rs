//! What this node is, as Docker, the kernel and the pinned maps tell.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::drain::Drain;
use super::health::Well;
use super::mesh::Tunnel;
use super::tables::TableSet;
use crate::docker::Health;
use crate::model::{EnvironmentKey, ReplicaKey};
use crate::netlink::{Inside, ObservedVeth};
use crate::wireguard::PublicKeys;

/// Everything that [`super::plan()`] compares with what should be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// The containers that own a network namespace.
    pub sandboxes: BTreeMap<ReplicaKey, Sandbox>,
    /// The containers that people asked for.
    pub workloads: BTreeMap<ReplicaKey, Workload>,
    /// Containers labelled as this node's that belong to no replica: ids.
    pub strays: BTreeSet<String>,
    /// Environments of which no volume and no credential is left; of a look, none: that is seen by the wish being gone.
    pub discarded: BTreeSet<EnvironmentKey>,
    /// Which of the running workloads are well.
    pub health: BTreeMap<ReplicaKey, Well>,
    /// How far the replicas that end are.
    pub drains: BTreeMap<ReplicaKey, Drain>,
    /// Which of the desired images are on this node.
    pub images: BTreeSet<String>,
    /// Host ends of veth pairs, by the container's address.
    pub veths: BTreeMap<Ipv4Addr, ObservedVeth>,
    /// What the containers' sides of the pairs are like, as far as that is known.
    pub insides: BTreeMap<ReplicaKey, Inside>,
    /// Pins that somebody removed, of what is held open.
    pub missing_pins: BTreeSet<PathBuf>,
    /// Devices that carry both programs of this build.
    pub attached: BTreeSet<u32>,
    /// Devices that are gone, but not their link pins.
    pub gone: BTreeSet<u32>,
    /// Versions of the ABI that are pinned, and of which no program runs any more.
    pub superseded: BTreeSet<u32>,
    /// The socket programs of this build are at the cgroup.
    pub sockets_attached: bool,
    /// The pinned maps.
    pub tables: TableSet,
    /// MTU that a container's veth gets: the uplink's.
    pub mtu: u32,
    /// The WireGuard device, if there is one.
    pub tunnel: Option<Tunnel>,
    /// Octets of the largest packet that gets to each other node, by its name, of the paths that have been measured.
    pub paths: BTreeMap<String, u32>,
    /// This node's WireGuard keys; none as long as nobody has looked.
    pub keys: Option<PublicKeys>,
    /// Devices with a default route.
    pub uplinks: BTreeSet<u32>,
}

/// The container that owns a replica's network namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    /// Container id.
    pub id: String,
    /// Created, running or dead.
    pub state: SandboxState,
    /// What it was made of.
    pub digest: String,
    /// A person paused it.
    pub paused: bool,
    /// A person gave it another name.
    pub renamed: bool,
}

/// Where a sandbox stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    /// Made, never started.
    Created,
    /// It runs.
    Running {
        /// Of its one process.
        pid: u32,
        /// Cookie of its network namespace.
        cookie: u64,
    },
    /// It ended; started again it would have another network namespace.
    Dead,
}

impl Sandbox {
    /// Cookie of the network namespace, while it lives.
    pub fn cookie(&self) -> Option<u64> {
        match self.state {
            SandboxState::Running { cookie, .. } => Some(cookie),
            SandboxState::Created | SandboxState::Dead => None,
        }
    }
}

/// The container that people asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Container id.
    pub id: String,
    /// Where it stands.
    pub state: WorkloadState,
    /// The sandbox container that it was made to join.
    pub sandbox: String,
    /// It lives in another network namespace than its sandbox does now.
    pub astray: bool,
    /// What it was made of.
    pub digest: String,
    /// A person gave it another name.
    pub renamed: bool,
    /// What its image was when it was made, by digest.
    pub image: Option<String>,
    /// Of its main process, while it has one.
    pub pid: Option<u32>,
}

/// Where a workload stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkloadState {
    /// Made, never started.
    Created,
    /// It runs.
    Running(Health),
    /// It ended and Docker starts it again.
    Restarting {
        /// How it ended.
        exit: Exit,
        /// How often it has done so.
        restarts: u32,
    },
    /// It ended and stays so.
    Exited {
        /// How it ended.
        exit: Exit,
        /// How often Docker had started it again before.
        restarts: u32,
    },
    /// A person paused it.
    Paused,
    /// Its process ended just now; Docker has not said yet what comes of it.
    Ending,
    /// Somebody is removing it, or failed to.
    Leaving,
}

/// How a process ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exit {
    /// Exit status.
    pub status: i64,
    /// It was killed for the memory that it needed.
    pub out_of_memory: bool,
    /// What it said last.
    pub last_words: Option<String>,
}

impl Workload {
    /// Whether its process is there to serve, in the right place.
    pub fn runs(&self) -> bool {
        matches!(self.state, WorkloadState::Running(_)) && !self.astray
    }
}
