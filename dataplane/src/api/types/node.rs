use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{Capacity, Reserved, Role};

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It is there, and takes replicas.
    Ready,
    /// It is there, and takes no new replicas.
    Cordoned,
    /// Nothing is heard of its daemon.
    Away,
}

impl std::fmt::Display for NodeState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ready => "ready",
            Self::Cordoned => "cordoned",
            Self::Away => "away",
        })
    }
}

/// That a machine is to become a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// In so many seconds.
    pub within: u64,
}

/// What it is given.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Invited {
    /// For `skepd join`; good once.
    pub token: String,
    /// Where it will ask.
    #[schema(value_type = String)]
    pub address: std::net::SocketAddr,
    /// Until when: seconds since the epoch.
    pub until: u64,
}

/// A machine that runs skepd, as the node that is asked sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeRow {
    /// Its name.
    pub node: String,
    /// It is the one that is asked.
    pub this: bool,
    /// Its id.
    pub id: u32,
    /// How it stands.
    pub state: NodeState,
    /// Where its WireGuard listens.
    pub address: Option<String>,
    /// Where its replicas' addresses come from.
    pub prefixes: Vec<String>,
    /// What it is for.
    pub roles: BTreeSet<Role>,
    /// What constraints of services may ask for.
    pub labels: BTreeMap<String, String>,
    /// Replicas that are assigned to it.
    pub replicas: u32,
    /// What is kept free for them.
    pub reserved: Reserved,
    /// What it has, if it tells.
    pub capacity: Option<Capacity>,
    /// Of its skepd, while that is there.
    pub version: Option<String>,
    /// `kernel` or `userspace`: the tunnel that leads there.
    pub tunnel: Option<String>,
    /// Seconds since a session with it was agreed on last.
    pub handshake: Option<u64>,
    /// Octets that came from it, encrypted.
    pub received: Option<u64>,
    /// Octets that were sent to it, encrypted.
    pub sent: Option<u64>,
    /// Milliseconds that a small packet takes there and back, without the tunnel.
    pub latency: Option<f64>,
    /// Octets of the largest packet that gets there, without the tunnel, where that is less than the uplinks take.
    pub path_mtu: Option<u32>,
    /// Its WireGuard public key, base64.
    pub key: Option<String>,
    /// While its key is being changed: the nodes that do not know the next one yet. One of them that is away is waited
    /// for as long as there is a session with it.
    pub rotating: Option<Vec<String>>,
    /// Packets from it with an address that is not its own. The kernel's device does not tell whose.
    pub forged: Option<u64>,
}

/// Body of `POST /v1/nodes/<node>/labels`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Labels {
    /// Given, or given another value.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Taken away; one that is not there is no error.
    #[serde(default)]
    pub remove: BTreeSet<String>,
}

/// Body of `POST /v1/nodes/<node>/roles`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Roles {
    /// All that it is to have.
    pub roles: BTreeSet<Role>,
}
