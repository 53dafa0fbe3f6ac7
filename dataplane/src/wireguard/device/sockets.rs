use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, SockaddrStorage, bind, recvfrom, setsockopt, shutdown, socket, sockopt,
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

    /// Waits for a datagram.
    pub(super) fn receive(&self, ipv6: bool, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let socket = self.of(ipv6).ok_or(io::ErrorKind::Unsupported)?;
        // Not by `recv_from`, which panics when there is no sender: of a socket that was retired there is none.
        let (length, from) = recvfrom::<SockaddrStorage>(socket.as_raw_fd(), buffer)?;
        let from = from.and_then(|from| match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
            (Some(v4), _) => Some(SocketAddr::V4((*v4).into())),
            (_, Some(v6)) => Some(SocketAddr::V6((*v6).into())),
            (None, None) => None,
        });
        from.map(|from| (length, from)).ok_or_else(|| io::ErrorKind::NotConnected.into())
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
    match bind(fd.as_raw_fd(), &SockaddrStorage::from(address)) {
        // IPv6 that is switched off.
        Err(nix::Error::EADDRNOTAVAIL) => Ok(None),
        result => result.map(|()| Some(fd.into())).map_err(io::Error::from),
    }
}
