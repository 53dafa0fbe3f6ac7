//! What ids and addresses are taken from. What is *in use* is never written here: the assignments say
//! so themselves. These records hold what assignments can't: what was given out last, and what rests.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::name::ReplicaKey;

/// How long a released address is not given out again.
pub const REST_SECONDS: u64 = 600;

/// Offset of the DNS address in the IPv4 VIP pool.
pub const DNS_OFFSET: u32 = 53;

/// The cluster's address pools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pools {
    /// IPv4 addresses of replicas; a node takes a /24 at a time.
    pub container4: Ipv4Net,
    /// IPv6 addresses of replicas; a node takes a /64.
    pub container6: Ipv6Net,
    /// IPv4 VIPs.
    pub vip4: Ipv4Net,
    /// IPv6 VIPs.
    pub vip6: Ipv6Net,
}

impl Pools {
    /// The address that answers DNS.
    pub fn dns(&self) -> Ipv4Addr {
        nth4(self.vip4, DNS_OFFSET)
    }

    /// The pair of VIPs at an offset.
    pub fn vip(&self, offset: u32) -> (Ipv4Addr, Ipv6Addr) {
        (nth4(self.vip4, offset), nth6(self.vip6, offset))
    }
}

/// The pools of every test of this crate that has no reason for others.
#[cfg(test)]
pub(crate) fn example_pools() -> Pools {
    Pools {
        container4: "10.208.0.0/12".parse().unwrap(),
        container6: "fd53:6b65:7000::/48".parse().unwrap(),
        vip4: "10.224.0.0/16".parse().unwrap(),
        vip6: "fd53:6b65:7001::/64".parse().unwrap(),
    }
}

/// The address at an offset of an IPv4 prefix.
pub fn nth4(prefix: Ipv4Net, offset: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(prefix.network().to_bits().wrapping_add(offset))
}

/// The address at an offset of an IPv6 prefix.
pub fn nth6(prefix: Ipv6Net, offset: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(prefix.network().to_bits().wrapping_add(offset.into()))
}

/// The ids handed out last. They only rise: an id is never handed out twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// Of environments.
    pub environment: u32,
    /// Of services.
    pub service: u32,
    /// Of nodes.
    pub node: u32,
}

/// Where the search for a free node prefix goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixPool {
    /// Index of the /24 in the pool.
    pub cursor: u32,
}

/// What an address pool remembers beyond the assignments. Addresses are offsets into the pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPool {
    /// Where the search for a free address goes on.
    pub cursor: u32,
    /// Of replicas that are no longer assigned, but that their node may still have: not free.
    pub leaving: BTreeMap<u32, ReplicaKey>,
    /// Released, with the time (seconds since the epoch): not free for [`REST_SECONDS`].
    pub resting: BTreeMap<u32, u64>,
}
