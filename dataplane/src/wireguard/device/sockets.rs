use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag, SockType, SockaddrStorage, bind,
    recvmsg, sendmsg, setsockopt, shutdown, socket, sockopt,
};

/// One UDP port, for both families as far as the host has them.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) port: u16,
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
}

impl Sockets {
    /// Takes the port, which must be nobody else's.
    pub(super) fn open(port: u16) -> io::Result<Self> {
        let v4 = bound((Ipv4Addr::UNSPECIFIED, port).into())?;
        let v6 = bound((Ipv6Addr::UNSPECIFIED, port).into())?;
        match (&v4, &v6) {
            (None, None) => Err(io::ErrorKind::Unsupported.into()),
            _ => Ok(Self { port, v4, v6 }),
        }
    }

    /// Whether there is one of that family.
    pub(super) fn has(&self, ipv6: bool) -> bool {
        self.of(ipv6).is_some()
    }

    fn of(&self, ipv6: bool) -> Option<&UdpSocket> {
        if ipv6 { self.v6.as_ref() } else { self.v4.as_ref() }
    }

    /// Sends; what cannot be sent is lost, as on any network, and what sent it tries again.
    pub(super) fn send(&self, message: &[u8], to: SocketAddr) {
        if let Some(socket) = self.of(to.is_ipv6()) {
            let _sent = socket.send_to(message, to);
        }
    }

    /// Sends messages that are all `len` octets long but the last, which may be shorter: by one call, where the way is one
    /// that takes them so.
    pub(super) fn send_run(&self, messages: &[u8], len: u16, to: SocketAddr) {
        let Some(socket) = self.of(to.is_ipv6()) else { return };
        if messages.len() <= len.into() {
            return self.send(messages, to);
        }
        let (address, parts) = (SockaddrStorage::from(to), [IoSlice::new(messages)]);
        let cut = [ControlMessage::UdpGsoSegments(&len)];
        let sent = sendmsg(socket.as_raw_fd(), &parts, &cut, MsgFlags::empty(), Some(&address));
        // Each is longer than fits into a packet there, or the device computes no checksums (net/ipv4/udp.c, udp_send_skb).
        if matches!(sent, Err(Errno::EINVAL | Errno::EIO | Errno::EMSGSIZE)) {
            messages.chunks(len.into()).for_each(|message| self.send(message, to));
        }
    }

    /// Waits for datagrams: their octets, how long each of them is but the last, and who has sent them.
    pub(super) fn receive(&self, ipv6: bool, buffer: &mut [u8]) -> io::Result<(usize, usize, SocketAddr)> {
        let socket = self.of(ipv6).ok_or(io::ErrorKind::Unsupported)?;
        let (mut control, mut parts) = (nix::cmsg_space!(i32), [IoSliceMut::new(buffer)]);
        // Not by `recv_from`, which panics when there is no sender: of a socket that was retired there is none.
        let received =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
        let each = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::UdpGroSegments(len) => usize::try_from(len).ok(),
            _ => None,
        });
        let from = received.address.as_ref().and_then(|from| match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
            (Some(v4), _) => Some(SocketAddr::V4((*v4).into())),
            (_, Some(v6)) => Some(SocketAddr::V6((*v6).into())),
            (None, None) => None,
        });
        let (len, from) = (received.bytes, from.ok_or(io::ErrorKind::NotConnected)?);
        Ok((len, each.unwrap_or(len), from))
    }

    /// Has whoever waits for a datagram wait no longer.
    pub(super) fn retire(&self) {
        for socket in self.v4.iter().chain(&self.v6) {
            // It says that the socket is not connected, and wakes them all the same (net/ipv4/af_inet.c, inet_shutdown).
            let _not_connected = shutdown(socket.as_raw_fd(), Shutdown::Both);
        }
    }
}

/// `None` when the host has no addresses of that family.
fn bound(address: SocketAddr) -> io::Result<Option<UdpSocket>> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let fd: OwnedFd = match socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None) {
        Err(nix::Error::EAFNOSUPPORT) => return Ok(None),
        result => result?,
    };
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    if address.is_ipv4() {
        // Without DF, as the kernel's own device sends: what is too long for a router is fragmented there. With it, the packet
        // would be lost, for good where the router says nothing. IPv6 has the sender fragment, by what it has heard.
        crate::sockopt::set(fd.as_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT)?;
    }
    // Datagrams of one sender that come together are received together.
    setsockopt(&fd, sockopt::UdpGroSegment, &true)?;
    match bind(fd.as_raw_fd(), &SockaddrStorage::from(address)) {
        // IPv6 that is switched off.
        Err(nix::Error::EADDRNOTAVAIL) => Ok(None),
        result => result.map(|()| Some(fd.into())).map_err(io::Error::from),
    }
}
