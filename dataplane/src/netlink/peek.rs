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
    pub(super) const STATS: u16 = 7;
    pub(super) const STATS64: u16 = 23;
    pub(super) const AF_SPEC: u16 = 26;
    pub(super) const EXT_MASK: u16 = 29;
    pub(super) const TARGET_NETNSID: u16 = 46;
    /// Of IPv6 in `AF_SPEC`.
    pub(super) const INET6_CACHEINFO: u16 = 5;
}

/// `RTEXT_FILTER_SKIP_STATS`: it leaves out what IPv6 counts, but not what the device does.
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
        nlmsg::ask(&self.socket, libc::RTM_GETLINK, false, &request, |link| hash(link, &mut hasher))?;
        Ok(hasher.finish())
    }
}

/// All of a link but what changes by itself: what packets count, and how long IPv6 believes in a neighbour, for which
/// the kernel throws dice every five minutes (`neigh_rand_reach_time`).
fn hash(link: &[u8], hasher: &mut DefaultHasher) {
    let (header, rest) = link.split_at_checked(HEADER).unwrap_or((link, &[]));
    header.hash(hasher);
    for (kind, payload) in nlmsg::attributes(rest) {
        match kind {
            attribute::STATS | attribute::STATS64 => {}
            attribute::AF_SPEC => {
                for (family, of) in nlmsg::attributes(payload) {
                    let is_v6 = i32::from(family) == libc::AF_INET6;
                    nlmsg::attributes(of)
                        .filter(|(kind, _)| !(is_v6 && *kind == attribute::INET6_CACHEINFO))
                        .for_each(|attribute| (family, attribute).hash(hasher));
                }
            }
            _ => (kind, payload).hash(hasher),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nlmsg::put_attribute;

    fn digest(packets: u8, mtu: u8, sysctls: u8, reachable: u8) -> u64 {
        const MTU: u16 = 4;
        const INET6_CONF: u16 = 2;
        let inet6 =
            [put_attribute(INET6_CONF, &[sysctls; 8]), put_attribute(attribute::INET6_CACHEINFO, &[reachable; 16])];
        let attributes = [
            put_attribute(attribute::STATS, &[packets; 96]),
            put_attribute(attribute::STATS64, &[packets; 200]),
            put_attribute(MTU, &[mtu; 4]),
            put_attribute(attribute::AF_SPEC, &put_attribute(libc::AF_INET6 as u16, &inet6.concat())),
        ];
        let mut hasher = DefaultHasher::new();
        hash(&[vec![0; HEADER], attributes.concat()].concat(), &mut hasher);
        hasher.finish()
    }

    #[test]
    fn packets_and_dice_are_no_change_but_the_rest_is() {
        assert_eq!(digest(0, 1, 2, 3), digest(9, 1, 2, 9));
        assert_ne!(digest(0, 1, 2, 3), digest(0, 9, 2, 3));
        assert_ne!(digest(0, 1, 2, 3), digest(0, 1, 9, 3));
    }
}
