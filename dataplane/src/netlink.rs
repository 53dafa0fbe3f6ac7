//! Links, addresses, routes and neighbours, of the host and inside the containers' network namespaces.
//!
//! Every `ensure_` is idempotent: what is there as wanted is left alone, what is there otherwise is
//! replaced. rtnetlink's types stay in here; callers see [`VethSpec`], [`ObservedVeth`], [`Uplink`].
//!
//! A container has a /32 and a /128 and a default route through a link-local gateway that nobody
//! owns: all neighbours are permanent entries on both sides, so no ARP and no neighbour discovery
//! is ever needed, and the programs may drop every such packet.

mod changes;
mod container;
mod elsewhere;
mod error;
mod host_side;
mod inside;
mod link;
mod lookup;
mod netns;
mod peek;
mod picture;
mod routes;
mod segments;
mod sock_diag;
mod sysctl;
mod tunnel;
mod veth;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tokio::sync::Mutex;

pub use changes::Change;
pub use elsewhere::{Elsewhere, elsewhere};
pub use error::NetlinkError;
pub use host_side::Uplink;
pub use inside::{Inside, Part};
pub use netns::Netns;
pub(crate) use peek::Peek;
pub use picture::HostSide;
pub use segments::{GSO_LEGACY_MAX, SegmentSize};
pub use sock_diag::{Connections, Meter};
pub use sysctl::Changed;
pub use tunnel::{LinkKind, TunnelLink};
pub use veth::{ObservedVeth, VETH_PREFIX, VethSpec, container_mac, host_mac, veth_name};

/// Next hop of a container's IPv4 default route; link-local (RFC 3927), owned by nobody.
pub const GATEWAY4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Next hop of a container's IPv6 default route.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// `rtm_protocol` of every route skepd makes, so that `ip route show proto 83` lists them and
/// nobody else's route is ever taken for one of them.
pub const ROUTE_PROTOCOL: u8 = 83;

/// Name of the container's end of a veth pair.
pub const CONTAINER_IFNAME: &str = "eth0";

/// A connection to the kernel's routing tables in one network namespace.
#[derive(Clone)]
pub struct Netlink {
    handle: rtnetlink::Handle,
    /// Held while a table is listed: on one socket the kernel lists one at a time, and says EBUSY to another.
    listing: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netlink").finish_non_exhaustive()
    }
}

impl Netlink {
    /// Opens a connection in the calling thread's network namespace; it ends with its last clone.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`] when the kernel gives no netlink socket. Must be called within a tokio runtime.
    pub fn connect() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Socket)?;
        tokio::spawn(connection);
        Ok(Self { handle, listing: Arc::default() })
    }
}
