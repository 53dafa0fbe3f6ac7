//! The message that a packet is too big for the way it has to go: ICMP "fragmentation needed" (RFC 792, with the MTU of
//! RFC 1191), ICMPv6 "packet too big" (RFC 4443 section 3.2).
//!
//! There is no router that it could come from: a replica's gateway is a link-local address of which nobody may send. So
//! it comes from whom the packet was for, as of a host that cannot take it. Senders look at what it quotes, not at who
//! says so, and no filter in the container takes the address that is being talked to for a stranger's.

use super::{Family, Ipv4, Ipv6, protocol};
use crate::{abi::Addr, checksum::Sum};

/// The octets that a message quotes; twice what is used, for [`super::Bytes::copy`].
pub type Quote = [u8; 4096];

/// Octets of an ICMP header.
pub const ICMP_LEN: u32 = 8;

/// How many octets of the packet a message quotes: as many as fit into 576 octets (RFC 1812 section 4.3.2.3), or into
/// 1,280 (RFC 4443 section 2.4). A packet that is too big for a tunnel has as many: IPv6 needs 1,280 everywhere.
#[inline(always)]
pub const fn quoted(family: Family) -> u32 {
    match family {
        Family::V4 => 576 - size_of::<Ipv4>() as u32 - ICMP_LEN,
        Family::V6 => 1_280 - size_of::<Ipv6>() as u32 - ICMP_LEN,
    }
}

/// The headers of the message about a packet with this header; `quote` is the sum of what is quoted of it.
#[inline(always)]
#[must_use]
pub const fn v4(ip: Ipv4, mtu: u32, quote: Sum) -> (Ipv4, [u16; 4]) {
    /// Destination unreachable, fragmentation needed.
    const KIND: u16 = u16::from_ne_bytes([3, 4]);
    let mtu = if mtu > u16::MAX as u32 { u16::MAX } else { (mtu as u16).to_be() };
    let checksum = quote.half(KIND).half(mtu).finish();
    (ip.answer(protocol::ICMP, (ICMP_LEN + quoted(Family::V4)) as u16), [KIND, checksum, 0, mtu])
}

/// As [`v4`].
#[inline(always)]
#[must_use]
pub const fn v6(ip: Ipv6, mtu: u32, quote: Sum) -> (Ipv6, [u16; 4]) {
    /// Packet too big.
    const KIND: u16 = u16::from_ne_bytes([2, 0]);
    const LEN: u16 = (ICMP_LEN + quoted(Family::V6)) as u16;
    let ip = ip.answer(protocol::ICMPV6, LEN);
    let [m0, m1, m2, m3] = mtu.to_be_bytes();
    let (high, low) = (u16::from_ne_bytes([m0, m1]), u16::from_ne_bytes([m2, m3]));
    let (source, destination) = (Addr(ip.source), Addr(ip.destination));
    let sum = quote.pseudo_v6(source, destination, protocol::ICMPV6, LEN).half(KIND).half(high).half(low);
    (ip, [KIND, sum.finish(), high, low])
}
