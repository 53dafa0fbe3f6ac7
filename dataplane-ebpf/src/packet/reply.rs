//! Turning a packet round: the headers of an answer, from those of the question.

use super::{Ethernet, Family, Ipv4, Udp, protocol};
use crate::{
    abi::Addr,
    checksum::{self, Sum},
};

/// Back to whoever sent it.
#[inline(always)]
#[must_use]
pub const fn ethernet(question: Ethernet) -> Ethernet {
    Ethernet { destination: question.source, source: question.destination, ..question }
}

/// The headers of a datagram with this payload; `payload` is the sum of its words, `len` its octets (not more than
/// fit in a packet).
#[inline(always)]
#[must_use]
pub const fn datagram(ip: Ipv4, udp: Udp, payload: Sum, len: u16) -> (Ipv4, Udp) {
    let udp_len = size_of::<Udp>() as u16 + len;
    let ip = ip.answer(protocol::UDP, udp_len);
    let mut udp = Udp { source: udp.destination, destination: udp.source, len: udp_len.to_be(), checksum: 0 };
    let (source, destination) = (Addr::from_v4_word(ip.source), Addr::from_v4_word(ip.destination));
    udp.checksum = match payload
        .pseudo_v4(source, destination, protocol::UDP, udp_len)
        .half(udp.source)
        .half(udp.destination)
        .half(udp.len)
        .finish()
    {
        // RFC 768: zero would say that there is none.
        0 => 0xffff,
        checksum => checksum,
    };
    (ip, udp)
}

/// The first word of an echo reply and its checksum, from those of the request. The addresses change places, which
/// no checksum notices.
#[inline(always)]
#[must_use]
pub const fn echo(family: Family, [kind, code, c0, c1]: [u8; 4]) -> [u8; 4] {
    let reply = match family {
        Family::V4 => 0,
        Family::V6 => 129,
    };
    let (old, new) = (u16::from_ne_bytes([kind, code]), u16::from_ne_bytes([reply, code]));
    let [c0, c1] = checksum::update(u16::from_ne_bytes([c0, c1]), old, new).to_ne_bytes();
    [reply, code, c0, c1]
}
