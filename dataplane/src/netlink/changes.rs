use futures_util::Stream;

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
    /// An address of the host came or went.
    Address,
    /// The kernel dropped notifications: look at everything again.
    Overrun,
}

impl Netlink {
    /// Changes from now on.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn changes() -> Result<impl Stream<Item = Change> + Send + Unpin, NetlinkError> {
        Ok(futures_util::stream::pending())
    }
}
