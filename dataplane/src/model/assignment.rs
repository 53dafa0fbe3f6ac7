//! What the controller decided: ids, addresses, placement. Written by it alone.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::name::{EnvironmentKey, ReplicaKey, ServiceKey};
use super::spec::{PullPolicy, ServiceSpec};

/// An environment's ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EnvironmentAssignment {
    /// Which.
    #[serde(flatten)]
    pub key: EnvironmentKey,
    /// Non-zero, never reused.
    pub id: u32,
    /// Bit number (0 to 63) of each network; a bit is kept while the network exists.
    pub networks: BTreeMap<String, u8>,
    /// Bits of networks that are gone, with the time (seconds since the epoch): they rest as addresses do,
    /// or a node that is behind would let the old network's services into the new one.
    #[serde(default)]
    pub resting: BTreeMap<u8, u64>,
}

/// A service's ids and addresses; they stay while the service exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceAssignment {
    /// Which.
    #[serde(flatten)]
    pub key: ServiceKey,
    /// Environment id.
    pub env: u32,
    /// Service id: non-zero, never reused.
    pub id: u32,
    /// IPv4 VIP.
    #[schema(value_type = String)]
    pub vip4: Ipv4Addr,
    /// IPv6 VIP.
    #[schema(value_type = String)]
    pub vip6: Ipv6Addr,
    /// Networks, a bit each.
    pub networks: u64,
    /// Names beside the service's own → networks in which they hold, a bit each.
    pub aliases: BTreeMap<String, u64>,
    /// The deployment that serves.
    pub deployment: u32,
    /// The one that is taking its place, as far as it has.
    #[serde(default)]
    pub next: Option<Next>,
    /// What the deployment that serves is.
    pub spec: ServiceSpec,
    /// Nobody wants it any more: no name, VIP or backend of it may be served. The record stays until the
    /// last node that had a replica has none, so that ids and addresses can't go to another one before.
    #[serde(default)]
    pub leaving: bool,
}

/// The number that a deployment's release task has among its replicas.
pub const RELEASE_TASK: u32 = 0;

/// How far a deployment has taken the place of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Next {
    /// Its number.
    pub deployment: u32,
    /// So many of its replicas, the first ones, serve instead of as many of the old one's.
    pub replicas: u32,
}

impl ServiceAssignment {
    /// Whether clients may be sent to a replica once it is well. Changed by one write: all nodes see the old set or
    /// the new one. A release task never serves, nor does a run.
    pub fn is_served_by(&self, replica: &ReplicaKey) -> bool {
        match self.next {
            _ if replica.replica == RELEASE_TASK => false,
            Some(next) if replica.deployment == next.deployment => replica.replica <= next.replicas,
            _ if self.spec.schedule.is_some() => false,
            Some(next) => replica.deployment == self.deployment && replica.replica > next.replicas,
            None => replica.deployment == self.deployment,
        }
    }
}

impl ReplicaAssignment {
    /// Whether it is a run of a service that has a schedule.
    pub fn is_run(&self) -> bool {
        self.spec.schedule.is_some() && self.key.replica != RELEASE_TASK
    }

    /// Whether it comes and goes by itself: a run, or there for one command. Nobody waits for it, or has it elsewhere.
    pub fn is_passing(&self) -> bool {
        self.is_run() || self.key.is_one_off()
    }

    /// Whether its registry has to say what the image is by now, whatever is here: its version has not begun anywhere.
    pub fn asks_registry(&self) -> bool {
        self.image.is_none() && self.spec.pull == PullPolicy::Always
    }

    /// The image to run: by digest, once that is known.
    pub fn reference(&self) -> &str {
        self.image.as_deref().unwrap_or(&self.spec.image)
    }
}

/// A replica: where it runs, with what. Self-contained, so that an agent needs no other record to start it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplicaAssignment {
    /// Which.
    #[serde(flatten)]
    pub key: ReplicaKey,
    /// Node name.
    pub node: String,
    /// Environment id.
    pub env: u32,
    /// Service id.
    pub service_id: u32,
    /// IPv4 address.
    #[schema(value_type = String)]
    pub address4: Ipv4Addr,
    /// IPv6 address.
    #[schema(value_type = String)]
    pub address6: Ipv6Addr,
    /// The service's VIPs, for the sandbox's hosts file.
    #[schema(value_type = String)]
    pub vip4: Ipv4Addr,
    /// See `vip4`.
    #[schema(value_type = String)]
    pub vip6: Ipv6Addr,
    /// Networks, a bit each.
    pub networks: u64,
    /// May it reach the internet.
    pub egress: bool,
    /// What to run.
    pub spec: ServiceSpec,
    /// The image by digest, where it is known already; else the spec's is looked up.
    #[serde(default)]
    pub image: Option<String>,
    /// Nobody is sent to it any more: its connections may end by themselves, then it is stopped.
    #[serde(default)]
    pub ending: bool,
}
