//! The host's side at one moment, out of one dump of each kind.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::{IpNet, Ipv4Net};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType};

use super::host_side::UNREACHABLE_METRIC;
use super::link::Link;
use super::routes::{destination, devices, is_own, table};
use super::veth::address_of;
use super::{Netlink, NetlinkError, ObservedVeth, Uplink};

/// What the host's namespace has for the containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSide {
    /// The host ends of veth pairs.
    pub veths: Vec<ObservedVeth>,
    /// The devices of the main table's default routes, by ifindex.
    pub uplinks: Vec<Uplink>,
    /// Prefixes with skepd's `unreachable` route.
    pub closed: BTreeSet<IpNet>,
}

impl Netlink {
    /// All of it; of the host ends those whose addresses are in `pool`, that is, this daemon's and not a neighbour
    /// daemon's.
    ///
    /// # Errors
    /// When a dump fails.
    pub async fn host_side(&self, pool: Ipv4Net) -> Result<HostSide, NetlinkError> {
        let links = self.links().await?;
        let routes = self.all_routes().await?;
        let neighbours = self.permanent_neighbours().await?;
        Ok(HostSide {
            veths: veths(&links, &routes, &neighbours, pool),
            uplinks: uplinks(&links, &routes),
            closed: routes.iter().filter(|message| is_closing(message)).filter_map(destination).collect(),
        })
    }

    /// [`HostSide::veths`] alone.
    ///
    /// # Errors
    /// When a dump fails.
    pub async fn veths(&self, pool: Ipv4Net) -> Result<Vec<ObservedVeth>, NetlinkError> {
        self.host_side(pool).await.map(|host| host.veths)
    }

    /// Device, address and MAC of every permanent neighbour.
    pub(super) async fn permanent_neighbours(&self) -> Result<Vec<(u32, IpAddr, [u8; 6])>, NetlinkError> {
        let _turn = self.listing.lock().await;
        let neighbours: Vec<NeighbourMessage> = self
            .handle
            .neighbours()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(NetlinkError::request("list", "neighbours"))?;
        let permanent = neighbours.iter().filter(|message| message.header.state == NeighbourState::Permanent);
        Ok(permanent.filter_map(neighbour).collect())
    }
}

fn veths(
    links: &[Link],
    routes: &[RouteMessage],
    neighbours: &[(u32, IpAddr, [u8; 6])],
    pool: Ipv4Net,
) -> Vec<ObservedVeth> {
    let mut found: BTreeMap<u32, ObservedVeth> = BTreeMap::new();
    for link in links.iter().filter(|link| link.is_veth) {
        if let Some(address4) = address_of(&link.name).filter(|address| pool.contains(address)) {
            found.insert(link.ifindex, ObservedVeth::new(link, address4));
        }
    }
    for message in routes.iter().filter(|message| is_own(message)) {
        let Some(destination) = destination(message).filter(is_host) else { continue };
        for ifindex in devices(message) {
            if let Some(veth) = found.get_mut(&ifindex) {
                veth.routes.push(destination.addr());
            }
        }
    }
    for (ifindex, address, mac) in neighbours {
        if let Some(veth) = found.get_mut(ifindex) {
            veth.neighbours.push((*address, *mac));
        }
    }
    found.into_values().collect()
}

pub(super) fn uplinks(links: &[Link], routes: &[RouteMessage]) -> Vec<Uplink> {
    let mut found: Vec<Uplink> = Vec::new();
    for message in routes {
        let is_default = message.header.destination_prefix_length == 0
            && message.header.kind == RouteType::Unicast
            && table(message) == u32::from(RouteHeader::RT_TABLE_MAIN);
        let Some(default) = destination(message).filter(|_| is_default) else { continue };
        for ifindex in devices(message) {
            let Some(link) = links.iter().find(|link| link.ifindex == ifindex) else { continue };
            let position = found.iter().position(|uplink| uplink.ifindex == ifindex).unwrap_or_else(|| {
                found.push(link.as_uplink());
                found.len() - 1
            });
            let uplink = &mut found[position];
            uplink.ipv4 |= default.addr().is_ipv4();
            uplink.ipv6 |= default.addr().is_ipv6();
            uplink.router_advertisement |= message.header.protocol == RouteProtocol::Ra;
        }
    }
    found.sort_by_key(|uplink| uplink.ifindex);
    found
}

fn is_closing(message: &RouteMessage) -> bool {
    message.header.kind == RouteType::Unreachable
        && is_own(message)
        && table(message) == u32::from(RouteHeader::RT_TABLE_MAIN)
        && message.attributes.contains(&RouteAttribute::Priority(UNREACHABLE_METRIC))
}

fn is_host(prefix: &IpNet) -> bool {
    prefix.prefix_len() == prefix.max_prefix_len()
}

fn neighbour(message: &NeighbourMessage) -> Option<(u32, IpAddr, [u8; 6])> {
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok(),
        _ => None,
    });
    Some((message.header.ifindex, neighbour_address(message)?, mac?))
}

pub(super) fn neighbour_address(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })
}
