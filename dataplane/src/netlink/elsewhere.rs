//! Notifications out of other network namespaces, all over one socket in this one.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};

use futures_util::{Stream, StreamExt as _};
use rtnetlink::MulticastGroup;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::NetlinkError;
use crate::nlmsg;

/// Something in a namespace that is not this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elsewhere {
    /// In the one that has this number here ([`super::ObservedVeth::peer_netns`]).
    Namespace(i32),
    /// The kernel dropped notifications: it may have been in any.
    Overrun,
}

const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv6Route,
];

/// Octets that wait for us; a new container makes two dozen notifications.
const BUFFER: usize = 1 << 20;

/// Changes of links, addresses, routes and neighbours from now on in every namespace that a device of this one leads
/// into. Ends when the socket fails.
///
/// # Errors
/// [`NetlinkError::Socket`]; without `CAP_NET_BROADCAST`, too.
pub fn elsewhere() -> Result<impl Stream<Item = Elsewhere> + Send + Unpin, NetlinkError> {
    let open = || {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_rx_buf_sz(BUFFER as libc::c_int)?;
        socket.set_listen_all_namespaces(true)?;
        let groups = GROUPS.into_iter().fold(0, |mask, group| mask | 1 << (group as u32 - 1));
        socket.bind(&SocketAddr::new(0, groups))?;
        nlmsg::readable(socket)
    };
    let socket = open().map_err(NetlinkError::Socket)?;
    Ok(futures_util::stream::unfold(socket, |socket| async {
        loop {
            let mut ready = socket.readable().await.ok()?;
            let received = ready.try_io(|socket| receive(socket.get_ref().as_raw_fd()));
            drop(ready);
            match received {
                // This very namespace, or nothing to be read after all.
                Ok(Ok(None)) | Err(_) => {}
                Ok(Ok(Some(namespace))) => return Some((Elsewhere::Namespace(namespace), socket)),
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Some((Elsewhere::Overrun, socket));
                }
                Ok(Err(_)) => return None,
            }
        }
    })
    .boxed())
}

/// `NETLINK_LISTEN_ALL_NSID`, also the type of the control message that names the namespace.
const NSID: libc::c_int = 8;

/// The namespace that the next message is from; `None`: this one. What is in it does not matter.
fn receive(socket: RawFd) -> io::Result<Option<i32>> {
    let mut data = [0_u8; 16];
    let mut control = [0_u64; 8];
    let mut part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    // SAFETY: all zero is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the header's pointers are to buffers of the lengths beside them, which live until after the call.
    if unsafe { libc::recvmsg(socket, &raw mut message, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel filled the control buffer and said how far.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: not null, so it points to a header inside the control buffer.
        let libc::cmsghdr { cmsg_level, cmsg_type, .. } = unsafe { *header };
        if (cmsg_level, cmsg_type) == (libc::SOL_NETLINK, NSID) {
            // SAFETY: the payload of this type is an `int`; the buffer promises no alignment for it.
            return Ok(Some(unsafe { libc::CMSG_DATA(header).cast::<i32>().read_unaligned() }));
        }
        // SAFETY: both point into the same message.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok(None)
}
