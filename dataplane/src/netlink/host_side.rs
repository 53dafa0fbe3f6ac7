use std::net::Ipv4Addr;

use ipnet::IpNet;
use netlink_packet_route::address::AddressScope;
use rtnetlink::LinkUnspec;

use super::error::errno;
use super::picture::uplinks;
use super::routes::{Via, destination, host_address, is_own, route, table};
use super::{Netlink, NetlinkError, VethSpec, sysctl};

/// Metric of the `unreachable` routes: higher than what people and DHCP clients give, lower than
/// the kernel's own last resort (`u32::MAX` for IPv6).
pub(super) const UNREACHABLE_METRIC: u32 = 0x7fff_ffff;

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
    /// Makes the host's end so: alias, MTU, segment size, sysctls, up, routes and permanent neighbours.
    ///
    /// # Errors
    /// When the link is gone or the kernel refuses a part.
    pub async fn ensure_host_side(&self, spec: &VethSpec) -> Result<(), NetlinkError> {
        let link = self.link(&spec.name).await?.ok_or_else(|| NetlinkError::NoLink(spec.name.clone()))?;
        for (key, value) in sysctl::for_host_end(&spec.name) {
            sysctl::ensure(&key, value)?;
        }
        let ifindex = link.ifindex;
        if !link.up || link.alias != spec.alias || link.mtu != spec.mtu || link.mac != spec.host_mac {
            let message = LinkUnspec::new_with_index(ifindex)
                .alias(&spec.alias)
                .mtu(spec.mtu)
                .address(spec.host_mac.to_vec())
                .up()
                .build();
            let set = self.handle.link().set(message).execute().await;
            set.map_err(NetlinkError::request("set up", &spec.name))?;
        }
        // What is sent by it ends in the container.
        self.put_segment_size(&link, u32::MAX).await?;
        for address in [std::net::IpAddr::from(spec.address4), spec.address6.into()] {
            self.put_neighbour(ifindex, address, spec.mac).await?;
            self.put_route(route(address.into(), Via::Link(ifindex), None), &address.to_string()).await?;
        }
        Ok(())
    }

    /// `unreachable` routes for whole pools, under everything more specific and under any other
    /// route to the same prefix, so that no packet for a container ever leaves by the default route.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn ensure_unreachable(&self, pools: &[IpNet]) -> Result<(), NetlinkError> {
        for pool in pools {
            self.put_route(unreachable(*pool), &format!("unreachable {pool}")).await?;
        }
        Ok(())
    }

    /// Undoes [`Self::ensure_unreachable`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_unreachable(&self, pools: &[IpNet]) -> Result<(), NetlinkError> {
        for pool in pools {
            self.delete_route(unreachable(*pool), &format!("unreachable {pool}")).await?;
        }
        Ok(())
    }

    /// The cluster DNS address as a /32 on `lo`, scope host: never chosen as a source, never announced.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn ensure_loopback_address(&self, address: Ipv4Addr) -> Result<(), NetlinkError> {
        let lo = self.set_up("lo").await?.ifindex;
        if self.addresses_of(lo).await?.contains(&address.into()) {
            return Ok(());
        }
        self.put_address(host_address(lo, address.into(), AddressScope::Host), &format!("{address} of lo")).await
    }

    /// Undoes [`Self::ensure_loopback_address`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_loopback_address(&self, address: Ipv4Addr) -> Result<(), NetlinkError> {
        let Some(lo) = self.link("lo").await? else { return Ok(()) };
        let message = host_address(lo.ifindex, address.into(), AddressScope::Host);
        match self.handle.address().del(message).execute().await {
            Err(error) if errno(&error) == libc::EADDRNOTAVAIL => Ok(()),
            result => result.map_err(NetlinkError::request("remove address", format!("{address} of lo"))),
        }
    }

    /// The devices of the main table's default routes, by ifindex.
    ///
    /// # Errors
    /// When a dump fails.
    pub async fn uplinks(&self) -> Result<Vec<Uplink>, NetlinkError> {
        Ok(uplinks(&self.links().await?, &self.all_routes().await?))
    }

    /// Prefixes that routes of other programs than skepd lead to, in all tables but the kernel's
    /// `local`; default routes left out. A pool that overlaps one of them cannot be used.
    ///
    /// # Errors
    /// When a dump fails.
    pub async fn foreign_prefixes(&self) -> Result<Vec<IpNet>, NetlinkError> {
        let routes = self.all_routes().await?;
        let foreign = routes.iter().filter(|message| {
            !is_own(message)
                && message.header.destination_prefix_length > 0
                && table(message) != u32::from(libc::RT_TABLE_LOCAL)
        });
        let mut prefixes: Vec<IpNet> = foreign.filter_map(destination).collect();
        prefixes.sort();
        prefixes.dedup();
        Ok(prefixes)
    }
}

fn unreachable(pool: IpNet) -> netlink_packet_route::route::RouteMessage {
    route(pool.trunc(), Via::Unreachable { metric: UNREACHABLE_METRIC }, None)
}
