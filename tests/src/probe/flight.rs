use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, recvfrom, sendto, setsockopt,
    socket, sockopt,
};

use super::{PORT, Protocol};
use crate::raw;

/// Identifier of all echo requests; the sequence number tells them apart.
const ECHO_ID: u16 = 0x5e1f;
/// What a question says.
const QUESTION: &[u8] = b"who?";

/// A probe under way.
pub(super) struct Flight {
    to: IpAddr,
    stage: Stage,
}

enum Stage {
    Connecting(TcpStream),
    Connected(TcpStream),
    Datagram(UdpSocket),
    Echo(OwnedFd, u16),
}

impl Flight {
    pub(super) fn start(protocol: Protocol, to: IpAddr, sequence: u16) -> io::Result<Self> {
        let stage = match protocol {
            Protocol::Tcp => Stage::Connecting(start_connecting(to)?),
            Protocol::Udp => {
                let socket = datagram_socket(to)?;
                socket.send_to(QUESTION, (to, PORT))?;
                Stage::Datagram(socket)
            }
            Protocol::ConnectedUdp => {
                let socket = datagram_socket(to)?;
                socket.connect((to, PORT))?;
                socket.send(QUESTION)?;
                Stage::Datagram(socket)
            }
            Protocol::Icmp => Stage::Echo(send_echo(to, sequence)?, sequence),
        };
        Ok(Self { to, stage })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stage {
            Stage::Connecting(stream) | Stage::Connected(stream) => stream.as_fd(),
            Stage::Datagram(socket) => socket.as_fd(),
            Stage::Echo(socket, _) => socket.as_fd(),
        }
    }

    pub(super) fn awaits(&self) -> PollFlags {
        if matches!(self.stage, Stage::Connecting(_)) { PollFlags::POLLOUT } else { PollFlags::POLLIN }
    }

    /// Goes on when the socket is ready; the answer when it has come.
    pub(super) fn advance(&mut self) -> io::Result<Option<Option<String>>> {
        let answer = match &mut self.stage {
            Stage::Connecting(stream) => {
                if let Some(error) = stream.take_error()? {
                    return Err(error);
                }
                stream.write_all(QUESTION)?;
                self.stage = Stage::Connected(stream.try_clone()?);
                return Ok(None);
            }
            Stage::Connected(stream) => read_name(|buffer| stream.read(buffer)),
            Stage::Datagram(socket) => {
                let expected = SocketAddr::new(self.to, PORT);
                read_name(|buffer| match socket.recv_from(buffer)? {
                    (length, from) if from == expected => Ok(length),
                    (_, from) => Err(io::Error::other(format!("asked {expected}, answered by {from}"))),
                })
            }
            Stage::Echo(socket, sequence) => receive_echo(socket, self.to, *sequence),
        };
        match answer {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
            Ok(name) => Ok(Some(name)),
        }
    }
}

fn read_name(read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<Option<String>> {
    let mut buffer = [0; 256];
    match read(&mut buffer)? {
        0 => Err(io::Error::other("closed without an answer")),
        length => Ok(Some(String::from_utf8_lossy(&buffer[..length]).into_owned())),
    }
}

fn family(to: IpAddr) -> AddressFamily {
    if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn start_connecting(to: IpAddr) -> io::Result<TcpStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family(to), SockType::Stream, flags, None)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(to, PORT))) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(socket)),
        Err(errno) => Err(errno.into()),
    }
}

fn datagram_socket(to: IpAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    report_errors(&socket, to)?;
    Ok(socket)
}

/// Without this, an ICMP error about what an unconnected socket sent looks like silence (ip(7), ipv6(7)).
fn report_errors(socket: &impl AsFd, to: IpAddr) -> io::Result<()> {
    match to {
        IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4RecvErr, &true)?,
        IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvErr, &true)?,
    }
    Ok(())
}

fn send_echo(to: IpAddr, sequence: u16) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (protocol, request) = match to {
        IpAddr::V4(_) => (SockProtocol::Icmp, raw::echo_request4(ECHO_ID, sequence, QUESTION)),
        // The kernel, which knows the source, fills in the checksum (RFC 3542 section 3.1).
        IpAddr::V6(to) => {
            (SockProtocol::IcmpV6, raw::echo_request6(Ipv6Addr::UNSPECIFIED, to, ECHO_ID, sequence, QUESTION))
        }
    };
    let socket = socket(family(to), SockType::Raw, flags, protocol)?;
    report_errors(&socket, to)?;
    sendto(socket.as_raw_fd(), &request, &SockaddrStorage::from(SocketAddr::new(to, 0)), MsgFlags::empty())?;
    Ok(socket)
}

/// A raw socket sees every ICMP packet of its namespace: all but the one reply are left aside.
fn receive_echo(socket: &OwnedFd, to: IpAddr, sequence: u16) -> io::Result<Option<String>> {
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer)?;
        let packet = &buffer[..length];
        let (message, reply_type) = match to {
            // With the IPv4 header in front; without the IPv6 one.
            IpAddr::V4(_) => (packet.get(usize::from(packet[0] & 0xf) * 4..).unwrap_or_default(), 0),
            IpAddr::V6(_) => (packet, 129),
        };
        let expected = [&[reply_type, 0][..], &message[2..4], &ECHO_ID.to_be_bytes(), &sequence.to_be_bytes()].concat();
        let from = from.and_then(|from| {
            let v4 = from.as_sockaddr_in().map(|from| IpAddr::V4(from.ip()));
            v4.or_else(|| from.as_sockaddr_in6().map(|from| IpAddr::V6(from.ip())))
        });
        if message.starts_with(&expected) && from == Some(to) {
            return Ok(None);
        }
    }
}
