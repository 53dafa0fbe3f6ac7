use serde::{Deserialize, Serialize};

use super::{Netlink, NetlinkError, Uplink};

/// A host-wide sysctl that skepd changed, and what it was: `uninstall` puts it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Dotted path below /proc/sys with `/` as separator, such as `net/ipv4/ip_forward`.
    pub key: String,
    /// What was there.
    pub before: String,
    /// What skepd wrote.
    pub after: String,
}

impl Netlink {
    /// Turns forwarding on for both families, after `accept_ra=2` on uplinks that live from router
    /// advertisements (a forwarding host ignores them otherwise, and would lose its own default
    /// route minutes later). Returns what had to be changed.
    ///
    /// # Errors
    /// [`NetlinkError::Sysctl`].
    pub fn ensure_forwarding(&self, uplinks: &[Uplink]) -> Result<Vec<Changed>, NetlinkError> {
        let _ = uplinks;
        unimplemented!()
    }

    /// Puts back what [`Self::ensure_forwarding`] changed, last first, where it still is as skepd left it.
    ///
    /// # Errors
    /// [`NetlinkError::Sysctl`].
    pub fn restore_forwarding(&self, changed: &[Changed]) -> Result<(), NetlinkError> {
        let _ = changed;
        unimplemented!()
    }
}
