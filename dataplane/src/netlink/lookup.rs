//! What the host would do with a packet.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};

use super::error::errno;
use super::routes::family;
use super::{Netlink, NetlinkError};

impl Netlink {
    /// The device through which this host would forward a packet that comes in through `ifindex`; `None` when it would
    /// not: its own address, unreachable, broadcast, forwarding off.
    ///
    /// # Errors
    /// When the request fails for another reason than that.
    pub async fn forwards_through(
        &self,
        source: IpAddr,
        destination: IpAddr,
        ifindex: u32,
    ) -> Result<Option<u32>, NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
        message.header.source_prefix_length = message.header.destination_prefix_length;
        message.attributes = vec![
            RouteAttribute::Destination(destination.into()),
            RouteAttribute::Source(source.into()),
            RouteAttribute::Iif(ifindex),
        ];
        let found = match self.handle.route().get(message).execute().try_next().await {
            Ok(found) => found,
            Err(error) if is_no(errno(&error)) => None,
            Err(error) => return Err(NetlinkError::request("look up route to", destination.to_string())(error)),
        };
        let route = found.filter(|route| route.header.kind == RouteType::Unicast);
        Ok(route.and_then(|route| {
            route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(ifindex) => Some(*ifindex),
                _ => None,
            })
        }))
    }
}

/// The errors that are an answer: the route says no, or there is none.
fn is_no(errno: i32) -> bool {
    matches!(errno, libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EACCES | libc::EINVAL | libc::EXDEV | libc::ENODEV)
}
