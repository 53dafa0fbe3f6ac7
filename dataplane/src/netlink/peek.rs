//! A container's device, asked for from the host's namespace: of its segment size and its sysctls the kernel tells
//! nobody when they change, and to enter a namespace takes a thread.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::fd::OwnedFd;

use nix::sys::socket::SockProtocol;

use super::CONTAINER_IFNAME;
use crate::nlmsg;

/// Octets of `struct ifinfomsg`; nothing in it is set.
const HEADER: usize = 16;

/// `IFLA_…` of the kernel's `include/uapi/linux/if_link.h`.
mod attribute {
    pub(super) const IFNAME: u16 = 3;
    pub(super) const EXT_MASK: u16 = 29;
    pub(super) const TARGET_NETNSID: u16 = 46;
}

/// `RTEXT_FILTER_SKIP_STATS`: what packets count is no change.
const SKIP_STATS: u32 = 1 << 3;

/// Asks from the namespace that it was made in.
#[derive(Debug)]
pub(crate) struct Peek {
    socket: OwnedFd,
}

impl Peek {
    /// From the calling thread's namespace.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { socket: nlmsg::open(SockProtocol::NetlinkRoute)? })
    }

    /// Another number when anything about the container's device is another; of the namespace that has the number
    /// `namespace` here.
    ///
    /// # Errors
    /// `ENODEV` when it has no device of that name, and the kernel's others.
    pub(crate) fn digest(&self, namespace: i32) -> io::Result<u64> {
        let mut request = vec![0; HEADER];
        request.extend(nlmsg::text_attribute(attribute::IFNAME, CONTAINER_IFNAME));
        request.extend(nlmsg::put_attribute(attribute::EXT_MASK, &SKIP_STATS.to_ne_bytes()));
        request.extend(nlmsg::put_attribute(attribute::TARGET_NETNSID, &namespace.to_ne_bytes()));
        let mut hasher = DefaultHasher::new();
        nlmsg::ask(&self.socket, libc::RTM_GETLINK, false, &request, |link| link.hash(&mut hasher))?;
        Ok(hasher.finish())
    }
}
