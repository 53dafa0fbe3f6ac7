use std::io;
use std::path::PathBuf;

use netlink_packet_route::link::{Inet6DevConf, InetDevConf};
use serde::{Deserialize, Serialize};

use super::link::Link;
use super::{Netlink, NetlinkError, Uplink};

/// A host-wide sysctl that skepd changed, and what it was: `uninstall` puts it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Path below /proc/sys, such as `net/ipv4/ip_forward`.
    pub key: String,
    /// What was there.
    pub before: String,
    /// What skepd wrote.
    pub after: String,
}

/// Path of a key. Keys have `/` between their parts, since interface names may contain dots.
fn path(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(key)
}

/// Reads a sysctl of the calling thread's network namespace.
pub(super) fn read(key: &str) -> Result<String, NetlinkError> {
    let value = std::fs::read_to_string(path(key));
    let value = value.map_err(|source| NetlinkError::ReadSysctl { path: path(key), source })?;
    Ok(value.trim_end().to_owned())
}

/// Writes a sysctl of the calling thread's network namespace, unless it has that value already:
/// some of them flush caches at each write.
pub(super) fn ensure(key: &str, value: &str) -> Result<Option<Changed>, NetlinkError> {
    let before = read(key)?;
    if before == value {
        return Ok(None);
    }
    write(key, value)?;
    Ok(Some(Changed { key: key.to_owned(), before, after: value.to_owned() }))
}

fn write(key: &str, value: &str) -> Result<(), NetlinkError> {
    let written = std::fs::write(path(key), value);
    written.map_err(|source| NetlinkError::Sysctl { path: path(key), value: value.to_owned(), source })
}

/// What a container's device needs before it gets an address.
pub(super) fn for_container(ifname: &str) -> [(String, &'static str); 4] {
    [
        (format!("net/ipv6/conf/{ifname}/accept_ra"), "0"),
        (format!("net/ipv6/conf/{ifname}/accept_dad"), "0"),
        // No link-local address: no duplicate detection, no MLD and no router solicitation for it.
        (format!("net/ipv6/conf/{ifname}/addr_gen_mode"), "1"),
        (format!("net/ipv6/conf/{ifname}/disable_ipv6"), "0"),
    ]
}

/// What a host end needs before it is set up. The programs decide; these are the second line.
pub(super) fn for_host_end(ifname: &str) -> [(String, &'static str); 13] {
    let v4 = |key: &str| format!("net/ipv4/conf/{ifname}/{key}");
    let v6 = |key: &str| format!("net/ipv6/conf/{ifname}/{key}");
    [
        (v4("forwarding"), "1"),
        // Strict holds: the /32 to this very device is the way back to every source it may have.
        (v4("rp_filter"), "1"),
        (v4("accept_redirects"), "0"),
        (v4("send_redirects"), "0"),
        (v4("proxy_arp"), "0"),
        (v4("route_localnet"), "0"),
        (v6("addr_gen_mode"), "1"),
        (v6("accept_ra"), "0"),
        (v6("accept_dad"), "0"),
        (v6("accept_redirects"), "0"),
        (v6("proxy_ndp"), "0"),
        (v6("disable_ipv6"), "0"),
        (v6("forwarding"), "1"),
    ]
}

/// Whether a container's device has [`for_container`].
pub(super) fn is_container(link: &Link) -> bool {
    let Inet6DevConf { accept_ra, accept_dad, addr_gen_mode, disable_ipv6, .. } = link.conf6;
    (accept_ra, accept_dad, addr_gen_mode, disable_ipv6) == (0, 0, 1, 0)
}

/// Whether a host end has [`for_host_end`].
pub(super) fn is_host_end(link: &Link) -> bool {
    let InetDevConf { forwarding, rp_filter, accept_redirects, send_redirects, proxy_arp, route_localnet, .. } =
        link.conf4;
    let ipv4 = (forwarding, rp_filter, accept_redirects, send_redirects, proxy_arp, route_localnet);
    let Inet6DevConf {
        addr_gen_mode,
        accept_ra,
        accept_dad,
        accept_redirects,
        proxy_ndp,
        disable_ipv6,
        forwarding,
        ..
    } = link.conf6;
    let ipv6 = (addr_gen_mode, accept_ra, accept_dad, accept_redirects, proxy_ndp, disable_ipv6, forwarding);
    ipv4 == (1, 1, 0, 0, 0, 0) && ipv6 == (1, 0, 0, 0, 0, 0, 1)
}

impl Netlink {
    /// Turns forwarding on for both families, after `accept_ra=2` on uplinks that live from router
    /// advertisements (a forwarding host ignores them otherwise, and would lose its own default
    /// route minutes later). Returns what had to be changed.
    ///
    /// # Errors
    /// [`NetlinkError::Sysctl`].
    pub fn ensure_forwarding(&self, uplinks: &[Uplink]) -> Result<Vec<Changed>, NetlinkError> {
        let mut changed = Vec::new();
        for uplink in uplinks.iter().filter(|uplink| uplink.router_advertisement) {
            let key = format!("net/ipv6/conf/{}/accept_ra", uplink.name);
            // 0 means that a program such as systemd-networkd listens to the advertisements itself.
            if read(&key)? == "1" {
                changed.extend(ensure(&key, "2")?);
            }
        }
        changed.extend(ensure("net/ipv4/ip_forward", "1")?);
        changed.extend(ensure("net/ipv6/conf/all/forwarding", "1")?);
        Ok(changed)
    }

    /// Puts back what [`Self::ensure_forwarding`] changed, last first, where it still is as skepd left
    /// it. A device that is gone has nothing to put back.
    ///
    /// # Errors
    /// [`NetlinkError::Sysctl`].
    pub fn restore_forwarding(&self, changed: &[Changed]) -> Result<(), NetlinkError> {
        for change in changed.iter().rev() {
            match read(&change.key) {
                Ok(now) if now == change.after => write(&change.key, &change.before)?,
                Ok(_) => {}
                Err(NetlinkError::ReadSysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
