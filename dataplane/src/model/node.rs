//! The machines: what each got, what it tells of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::name::EnvironmentKey;
use super::placement::Capacity;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeIntent {
    /// No new replica is placed there.
    #[serde(default)]
    pub cordoned: bool,
    /// What constraints of services may ask for.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it is for.
    #[serde(default = "Role::all")]
    pub roles: BTreeSet<Role>,
    /// How often its WireGuard key was to be changed; [`TunnelRecord::rotation`] says how often that has been done.
    #[serde(default)]
    pub rotate: u64,
}

impl Default for NodeIntent {
    fn default() -> Self {
        Self { cordoned: false, labels: BTreeMap::new(), roles: Role::all(), rotate: 0 }
    }
}

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It may be the one that decides where everything goes.
    Control,
    /// For constraints: images are to be built there.
    Build,
    /// Replicas are placed there.
    Compute,
}

impl Role {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Build => "build",
            Self::Compute => "compute",
        }
    }

    /// Those of a node of which nothing was said.
    pub fn all() -> BTreeSet<Self> {
        [Self::Control, Self::Build, Self::Compute].into()
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
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
    /// The public key that is to take the place of `key`, base64: others have to know it before it is used.
    #[serde(default)]
    pub next: Option<String>,
    /// Which [`NodeIntent::rotate`] `key` is of.
    #[serde(default)]
    pub rotation: u64,
}

/// That a node's daemon is there: under a lease, so that it goes when nothing is heard of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Presence {
    /// Which state directory it has: two machines must not go by one name.
    pub instance: String,
    /// Of skepd.
    pub version: String,
    /// What it has for replicas; [`None`]: it does not tell, and takes whatever comes.
    #[serde(default)]
    pub capacity: Option<Capacity>,
    /// How it is asked; [`None`]: not at all.
    #[serde(default)]
    pub daemon: Option<DaemonRecord>,
}

/// How the other nodes' daemons ask this one, at the address of its [`TunnelRecord`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DaemonRecord {
    /// TCP.
    pub port: u16,
    /// X25519's public key, base64.
    pub key: String,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_earlier_versions_say_what_they_said() {
        let intent: NodeIntent = serde_json::from_str(r#"{"cordoned":true}"#).unwrap();
        assert_eq!(intent, NodeIntent { cordoned: true, ..NodeIntent::default() });
        assert_eq!(intent.roles.iter().map(|role| role.name()).collect::<Vec<_>>(), ["control", "build", "compute"]);
        let presence: Presence = serde_json::from_str(r#"{"instance":"a","version":"1"}"#).unwrap();
        assert_eq!(presence.capacity, None);
    }
}
