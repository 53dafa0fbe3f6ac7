use std::net::Ipv4Addr;

use ipnet::IpNet;

use super::{Netlink, NetlinkError, VethSpec};

/// A device that a default route of the main table uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Bytes.
    pub mtu: u32,
    /// Has an IPv4 default route.
    pub ipv4: bool,
    /// Has an IPv6 default route.
    pub ipv6: bool,
    /// The IPv6 default route came by router advertisement.
    pub router_advertisement: bool,
}

impl Netlink {
    /// Makes the host's end so: alias, MTU, sysctls, routes and permanent neighbours, up.
    ///
    /// # Errors
    /// When the link is gone or the kernel refuses a part.
    pub async fn ensure_host_side(&self, spec: &VethSpec) -> Result<(), NetlinkError> {
        let _ = spec;
        unimplemented!()
    }

    /// `unreachable` routes for whole pools, under everything more specific and under any other
    /// route to the same prefix, so that no packet for a container ever leaves by the default route.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn ensure_unreachable(&self, pools: &[IpNet]) -> Result<(), NetlinkError> {
        let _ = pools;
        unimplemented!()
    }

    /// Undoes [`Self::ensure_unreachable`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_unreachable(&self, pools: &[IpNet]) -> Result<(), NetlinkError> {
        let _ = pools;
        unimplemented!()
    }

    /// The cluster DNS address as a /32 on `lo`, scope host: never chosen as a source, never announced.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn ensure_loopback_address(&self, address: Ipv4Addr) -> Result<(), NetlinkError> {
        let _ = address;
        unimplemented!()
    }

    /// Undoes [`Self::ensure_loopback_address`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_loopback_address(&self, address: Ipv4Addr) -> Result<(), NetlinkError> {
        let _ = address;
        unimplemented!()
    }

    /// The devices of the main table's default routes, by ifindex.
    ///
    /// # Errors
    /// When a dump fails.
    pub async fn uplinks(&self) -> Result<Vec<Uplink>, NetlinkError> {
        unimplemented!()
    }
}
