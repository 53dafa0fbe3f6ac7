use std::net::IpAddr;

use futures_util::{Stream, StreamExt};
use netlink_packet_route::route::{RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};

use super::link::Link;
use super::picture::neighbour_address;
use super::routes::{is_own, table};
use super::{Netlink, NetlinkError};

/// Something in the host's namespace is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A link appeared or changed (carrier, up, name).
    Link {
        /// Its name.
        name: String,
        /// Its index.
        ifindex: u32,
        /// The peer is up.
        carrier: bool,
    },
    /// A link is gone.
    LinkGone {
        /// Its name.
        name: String,
        /// Its index.
        ifindex: u32,
    },
    /// A default route came or went: the uplinks may be others now.
    DefaultRoute,
    /// A route of skepd's went away.
    RouteGone,
    /// The link-layer address of this one came, went or is another.
    Neighbour(IpAddr),
    /// The host got an address, or was given again one that it has.
    Address,
    /// An address of the host went away.
    AddressGone,
    /// The kernel dropped notifications: look at everything again.
    Overrun,
}

const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
];

impl Netlink {
    /// Changes from now on, in the calling thread's network namespace. What happens before the
    /// first poll is kept.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn changes() -> Result<impl Stream<Item = Change> + Send + Unpin, NetlinkError> {
        let (connection, handle, messages) =
            rtnetlink::new_multicast_connection(&GROUPS).map_err(NetlinkError::Socket)?;
        tokio::spawn(connection);
        // The connection lives as long as its handle, which lives as long as the stream.
        Ok(messages.filter_map(move |(message, _)| {
            let _ = &handle;
            std::future::ready(change(&message))
        }))
    }
}

fn change(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<Change> {
    let inner = match &message.payload {
        NetlinkPayload::InnerMessage(inner) => inner,
        NetlinkPayload::Overrun(_) => return Some(Change::Overrun),
        _ => return None,
    };
    match inner {
        // A device that joins or leaves a bridge is announced in the bridge's family as well.
        RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message)
            if message.header.interface_family != AddressFamily::Unspec =>
        {
            None
        }
        RouteNetlinkMessage::NewLink(message) => {
            let Link { name, ifindex, carrier, .. } = message.into();
            Some(Change::Link { name, ifindex, carrier })
        }
        RouteNetlinkMessage::DelLink(message) => {
            let Link { name, ifindex, .. } = message.into();
            Some(Change::LinkGone { name, ifindex })
        }
        RouteNetlinkMessage::DelRoute(route) if is_own(route) => Some(Change::RouteGone),
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) if is_default(route) => {
            Some(Change::DefaultRoute)
        }
        RouteNetlinkMessage::NewNeighbour(message) | RouteNetlinkMessage::DelNeighbour(message) => {
            neighbour_address(message).map(Change::Neighbour)
        }
        RouteNetlinkMessage::NewAddress(_) => Some(Change::Address),
        RouteNetlinkMessage::DelAddress(_) => Some(Change::AddressGone),
        _ => None,
    }
}

fn is_default(route: &RouteMessage) -> bool {
    route.header.destination_prefix_length == 0
        && route.header.kind == RouteType::Unicast
        && table(route) == u32::from(libc::RT_TABLE_MAIN)
}
