//! Echo requests of ICMP (RFC 792) and ICMPv6 (RFC 4443) that nobody may fragment.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, recv, send, socket,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use crate::random;
use crate::sockopt;

/// Of a message: type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;
/// Octets of an answer that are read: an IPv4 header at its longest, and the message's own.
const ANSWER: usize = 60 + HEADER;
/// `ICMP_FILTER` and the one of ICMPv6 (`include/uapi/linux/icmp.h`, `icmpv6.h`): bits of the types that are not wanted.
const ICMP_FILTER: libc::c_int = 1;
const ICMP6_FILTER: libc::c_int = 1;

/// A conversation with one address.
#[derive(Debug)]
pub(super) struct Echo {
    socket: AsyncFd<OwnedFd>,
    family: &'static Family,
    /// Of this conversation: others may ask the same address.
    identifier: [u8; 2],
    sequence: u16,
}

/// What is different from one family to the other.
#[derive(Debug)]
struct Family {
    request: u8,
    reply: u8,
    /// Octets of the IP header in front of a message that is sent.
    ip: u32,
    /// An answer is read with its IP header.
    with_header: bool,
}

static V4: Family = Family { request: 8, reply: 0, ip: 20, with_header: true };
static V6: Family = Family { request: 128, reply: 129, ip: 40, with_header: false };

impl Echo {
    /// With `to`, in the calling thread's network namespace.
    pub(super) fn open(to: IpAddr) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let of = |family, protocol| socket(family, SockType::Raw, flags, protocol);
        let (socket, family) = match to {
            IpAddr::V4(_) => {
                let socket = of(AddressFamily::Inet, SockProtocol::Icmp)?;
                sockopt::set(socket.as_fd(), libc::IPPROTO_ICMP, ICMP_FILTER, !(1_u32 << V4.reply))?;
                // With DF, and up to what the device takes, whatever the kernel has heard of the path.
                let probe = libc::IP_PMTUDISC_PROBE;
                sockopt::set(socket.as_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, probe)?;
                (socket, &V4)
            }
            IpAddr::V6(_) => {
                let socket = of(AddressFamily::Inet6, SockProtocol::IcmpV6)?;
                let mut filter = [u32::MAX; 8];
                filter[usize::from(V6.reply / 32)] &= !(1_u32 << (V6.reply % 32));
                sockopt::set(socket.as_fd(), libc::IPPROTO_ICMPV6, ICMP6_FILTER, filter)?;
                let probe = libc::IPV6_PMTUDISC_PROBE;
                sockopt::set(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe)?;
                sockopt::set(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1_i32)?;
                (socket, &V6)
            }
        };
        // What others send is not heard.
        connect(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(to, 0)))?;
        // SAFETY: the descriptor belongs to the `AsyncFd`, which hands out shared references only.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        let identifier = random::octets::<2>().map_err(io::Error::other)?;
        Ok(Self { socket, family, identifier, sequence: 0 })
    }

    /// Sends a packet of `size` octets, and waits for the answer to it: how long that took.
    pub(super) async fn ask(&mut self, size: u32, patience: Duration) -> Option<Duration> {
        self.sequence = self.sequence.wrapping_add(1);
        let message = self.message(size);
        let sent = Instant::now();
        // It is too long for the device; or what was told of an earlier one, which counts as no answer either.
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty()).ok()?;
        timeout(patience, self.answered()).await.ok()?;
        Some(sent.elapsed())
    }

    fn message(&self, size: u32) -> Vec<u8> {
        let length = (size.saturating_sub(self.family.ip) as usize).max(HEADER);
        let mut message = vec![0; length];
        message[0] = self.family.request;
        message[4..6].copy_from_slice(&self.identifier);
        message[6..8].copy_from_slice(&self.sequence.to_be_bytes());
        // That of ICMPv6 is the kernel's, which has the addresses for it (RFC 3542, section 3.1).
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    /// Comes true with the answer to the last message.
    async fn answered(&self) {
        let mut buffer = [0; ANSWER];
        loop {
            let Ok(mut ready) = self.socket.readable().await else { return std::future::pending().await };
            let read = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty());
            match read {
                Ok(length) if self.is_answer(&buffer[..length]) => return,
                Err(nix::Error::EAGAIN) => ready.clear_ready(),
                // Somebody else's; or that a packet was too long, which anybody may say.
                _ => {}
            }
        }
    }

    fn is_answer(&self, packet: &[u8]) -> bool {
        let header = match packet.first() {
            Some(first) if self.family.with_header => usize::from(first & 0xf) * 4,
            _ => 0,
        };
        packet.get(header..header + HEADER).is_some_and(|message| {
            message[0] == self.family.reply
                && message[4..6] == self.identifier
                && message[6..8] == self.sequence.to_be_bytes()
        })
    }
}

/// RFC 1071, of a message whose own checksum is zero yet.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[0xff; 65_528]), 0);
        assert_eq!(checksum(&[0x12]), !0x1200);
    }
}
