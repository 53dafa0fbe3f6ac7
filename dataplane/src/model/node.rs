//! The machines: what each got, what it tells of itself.

use std::net::SocketAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::name::EnvironmentKey;

/// A machine that runs skepd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeRecord {
    /// `--node-name`.
    pub name: String,
    /// Non-zero, never reused.
    pub id: u32,
    /// Where its replicas' IPv4 addresses come from, a /24 each; another is taken when they are full.
    #[schema(value_type = Vec<String>)]
    pub prefixes4: Vec<Ipv4Net>,
    /// Where its replicas' IPv6 addresses come from, a /64.
    #[schema(value_type = String)]
    pub prefix6: Ipv6Net,
}

impl NodeRecord {
    /// Where the addresses of its replicas come from.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> + use<'_> {
        self.prefixes4.iter().copied().map(IpNet::V4).chain([self.prefix6.into()])
    }
}

/// What people want of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeIntent {
    /// No new replica is placed there.
    pub cordoned: bool,
}

/// How other nodes reach this one. It stays when the node is away: its tunnels then wait for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TunnelRecord {
    /// WireGuard's public key, base64.
    pub key: String,
    /// Where its WireGuard listens.
    #[schema(value_type = String)]
    pub endpoint: SocketAddr,
    /// Octets of the largest packet that its uplink takes.
    pub mtu: u32,
}

/// That a node's daemon is there: under a lease, so that it goes when nothing is heard of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Presence {
    /// Which state directory it has: two machines must not go by one name.
    pub instance: String,
    /// Of skepd.
    pub version: String,
}

/// A named volume of an environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VolumeKey {
    /// Whose.
    #[serde(flatten)]
    pub environment: EnvironmentKey,
    /// Its name in the file.
    pub volume: String,
}

/// Where a volume is: whoever mounts it runs there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VolumeAssignment {
    /// Node name.
    pub node: String,
}

/// That a node may come to the cluster's etcd; it may as long as this is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// Its user there: the common name of its certificate.
    pub user: String,
    /// It has the authority's key, and lets others in.
    pub admits: bool,
}

/// That somebody may become a node, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Who invited, and is to be asked.
    pub node: String,
    /// What whoever asks proves to know, base64.
    pub secret: String,
    /// Until when: milliseconds since the epoch, by the clock of who invited.
    pub until: u64,
}

/// Its secret is shown nowhere.
impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invitation").field("node", &self.node).field("until", &self.until).finish_non_exhaustive()
    }
}
