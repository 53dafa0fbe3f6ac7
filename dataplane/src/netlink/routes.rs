//! The few kinds of routes, addresses and neighbours that exist here, as messages.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;

use super::error::errno;
use super::{Netlink, NetlinkError, ROUTE_PROTOCOL};

/// Where a route leads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Via {
    /// The destination is on the link.
    Link(u32),
    /// A gateway on the link, even when no address says so.
    Gateway(u32, IpAddr),
    /// Nowhere: an error to the sender.
    Unreachable {
        /// High, so that any other route to the same prefix wins.
        metric: u32,
    },
}

/// A route of skepd's in the main table.
pub(super) fn route(destination: IpNet, via: Via, source: Option<IpAddr>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(destination.addr()),
        destination_prefix_length: destination.prefix_len(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Other(ROUTE_PROTOCOL),
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    let attributes = &mut message.attributes;
    if destination.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(destination.addr().into()));
    }
    if let Some(source) = source {
        attributes.push(RouteAttribute::PrefSource(source.into()));
    }
    match via {
        Via::Link(ifindex) => {
            attributes.push(RouteAttribute::Oif(ifindex));
            if destination.addr().is_ipv4() {
                message.header.scope = RouteScope::Link;
            }
        }
        Via::Gateway(ifindex, gateway) => {
            attributes.push(RouteAttribute::Oif(ifindex));
            attributes.push(RouteAttribute::Gateway(gateway.into()));
            message.header.flags = RouteFlags::Onlink;
        }
        Via::Unreachable { metric } => {
            attributes.push(RouteAttribute::Priority(metric));
            message.header.kind = RouteType::Unreachable;
        }
    }
    message
}

/// A host address: no broadcast (the kernel would make it a broadcast address of its own), no
/// duplicate detection (it would stay unusable for a second, and nobody else can have it).
pub(super) fn host_address(ifindex: u32, address: IpAddr, scope: AddressScope) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = if address.is_ipv4() { 32 } else { 128 };
    message.header.index = ifindex;
    message.header.scope = scope;
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    if address.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message
}

pub(super) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// Destination of a route, the default route's included.
pub(super) fn destination(message: &RouteMessage) -> Option<IpNet> {
    let len = message.header.destination_prefix_length;
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    let address = match (address, message.header.address_family) {
        (Some(address), _) => address,
        (None, AddressFamily::Inet) => IpAddr::from([0_u8; 4]),
        (None, AddressFamily::Inet6) => IpAddr::from([0_u8; 16]),
        (None, _) => return None,
    };
    IpNet::new(address, len).ok()
}

/// Table of a route: those above 255 do not fit into the header.
pub(super) fn table(message: &RouteMessage) -> u32 {
    let wide = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    wide.unwrap_or_else(|| message.header.table.into())
}

/// Every device that a route uses, those of several next hops included.
pub(super) fn devices(message: &RouteMessage) -> Vec<u32> {
    let mut found = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(ifindex) => found.push(*ifindex),
            RouteAttribute::MultiPath(hops) => found.extend(hops.iter().map(|hop| hop.interface_index)),
            _ => {}
        }
    }
    found
}

/// Whether skepd made it.
pub(super) fn is_own(message: &RouteMessage) -> bool {
    message.header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL)
}

impl Netlink {
    /// Adds or replaces a route.
    pub(super) async fn put_route(&self, message: RouteMessage, object: &str) -> Result<(), NetlinkError> {
        self.handle.route().add(message).replace().execute().await.map_err(NetlinkError::request("add route", object))
    }

    /// Removes a route; its absence is success.
    pub(super) async fn delete_route(&self, message: RouteMessage, object: &str) -> Result<(), NetlinkError> {
        match self.handle.route().del(message).execute().await {
            Err(error) if errno(&error) == libc::ESRCH => Ok(()),
            result => result.map_err(NetlinkError::request("remove route", object)),
        }
    }

    /// Adds or replaces a permanent neighbour.
    pub(super) async fn put_neighbour(&self, ifindex: u32, address: IpAddr, mac: [u8; 6]) -> Result<(), NetlinkError> {
        let request = self.handle.neighbours().add(ifindex, address).link_layer_address(&mac).replace();
        request.execute().await.map_err(NetlinkError::request("add neighbour", address.to_string()))
    }

    /// Adds an address; one that is there already is left alone.
    pub(super) async fn put_address(&self, message: AddressMessage, object: &str) -> Result<(), NetlinkError> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewAddress(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let mut responses =
            self.handle.clone().request(request).map_err(NetlinkError::request("add address", object))?;
        while let Some(response) = futures_util::StreamExt::next(&mut responses).await {
            if let NetlinkPayload::Error(error) = response.payload
                && error.code.is_some()
            {
                return Err(NetlinkError::request("add address", object)(rtnetlink::Error::NetlinkError(error)));
            }
        }
        Ok(())
    }

    /// All routes of both families, all tables.
    pub(super) async fn all_routes(&self) -> Result<Vec<RouteMessage>, NetlinkError> {
        let _turn = self.listing.lock().await;
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let routes: Vec<RouteMessage> = self
                .handle
                .route()
                .get(request)
                .execute()
                .try_collect()
                .await
                .map_err(NetlinkError::request("list", "routes"))?;
            found.extend(routes);
        }
        Ok(found)
    }
}
