use super::{Bound, Bytes, Family, Fragment, Packet, headers::TransportHeader, ipv4, ipv6, protocol};
use crate::abi::{FlowKey, Reason};

/// What the transport header says, as far as a decision needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP or UDP; or another protocol, whose ports count as zero.
    Ports {
        /// Network order.
        source: u16,
        /// Network order.
        destination: u16,
    },
    /// ICMP or ICMPv6 echo request with this identifier, network order.
    EchoRequest(u16),
    /// The reply to one.
    EchoReply(u16),
    /// An ICMP error, which quotes the packet it is about.
    IcmpError,
    /// Another ICMP message: redirects, timestamps and what else nobody needs.
    IcmpOther,
}

/// Types of ICMP messages (RFC 792 and RFC 4443).
mod icmp {
    pub(super) const ECHO_REPLY: u8 = 0;
    pub(super) const UNREACHABLE: u8 = 3;
    pub(super) const ECHO_REQUEST: u8 = 8;
    pub(super) const TIME_EXCEEDED: u8 = 11;
    pub(super) const PARAMETER_PROBLEM: u8 = 12;
    /// Unreachable, too big, time exceeded, parameter problem.
    pub(super) const V6_ERRORS: core::ops::RangeInclusive<u8> = 1..=4;
    pub(super) const V6_ECHO_REQUEST: u8 = 128;
    pub(super) const V6_ECHO_REPLY: u8 = 129;
    /// Multicast listeners.
    pub(super) const V6_LISTENERS: core::ops::RangeInclusive<u8> = 130..=132;
    /// Router and neighbour discovery and redirects.
    pub(super) const V6_LINK: core::ops::RangeInclusive<u8> = 133..=137;
    /// Version 2 multicast listener report (RFC 3810).
    pub(super) const V6_LISTENER_REPORT: u8 = 143;
}

/// Octets of the shortest TCP header.
const TCP_LEN: u32 = 20;

/// Reads the transport header of a packet that is no later fragment.
///
/// # Errors
/// [`Reason::BadLength`] when the packet ends before its header does, [`Reason::NeighborDiscovery`],
/// [`Reason::MulticastReport`].
#[inline(always)]
pub fn transport(bytes: &impl Bytes, packet: &Packet) -> Result<Transport, Reason> {
    let len = match packet.protocol {
        protocol::TCP => TCP_LEN,
        protocol::UDP | protocol::ICMP | protocol::ICMPV6 => size_of::<TransportHeader>() as u32,
        _ => return Ok(Transport::Ports { source: 0, destination: 0 }),
    };
    if packet.transport + len > packet.end {
        return Err(Reason::BadLength);
    }
    ports(bytes, packet)
}

/// Refuses what an ICMPv6 packet has to say about the link: neighbours are permanent here, routers and listeners
/// none.
///
/// # Errors
/// Those of [`transport`].
#[inline(always)]
pub fn refuse_link_messages(bytes: &impl Bytes, packet: &Packet) -> Result<(), Reason> {
    if !matches!(packet.fragment, Fragment::Later) {
        transport(bytes, packet)?;
    }
    Ok(())
}

#[inline(always)]
fn ports(bytes: &impl Bytes, packet: &Packet) -> Result<Transport, Reason> {
    let header: TransportHeader = bytes.load(packet.transport).ok_or(Reason::BadLength)?;
    Ok(match (packet.protocol, packet.family) {
        (protocol::TCP | protocol::UDP, _) => {
            Transport::Ports { source: u16::from_ne_bytes(header.first), destination: header.second }
        }
        (protocol::ICMP, Family::V4) => match header.first[0] {
            icmp::ECHO_REQUEST => Transport::EchoRequest(header.third),
            icmp::ECHO_REPLY => Transport::EchoReply(header.third),
            icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM => Transport::IcmpError,
            _ => Transport::IcmpOther,
        },
        (protocol::ICMPV6, Family::V6) => match header.first[0] {
            icmp::V6_ECHO_REQUEST => Transport::EchoRequest(header.third),
            icmp::V6_ECHO_REPLY => Transport::EchoReply(header.third),
            kind if icmp::V6_ERRORS.contains(&kind) => Transport::IcmpError,
            kind if icmp::V6_LINK.contains(&kind) => return Err(Reason::NeighborDiscovery),
            kind if icmp::V6_LISTENERS.contains(&kind) || kind == icmp::V6_LISTENER_REPORT => {
                return Err(Reason::MulticastReport);
            }
            _ => Transport::IcmpOther,
        },
        // One family's ICMP inside the other's packets means nothing.
        _ => Transport::IcmpOther,
    })
}

/// The tuple of the packet that an ICMP error quotes, as its sender sent it.
///
/// # Errors
/// [`Reason::UnrelatedIcmp`] when the quote is of a later fragment, of a packet without ports, or no packet.
#[inline(always)]
pub fn embedded(bytes: &impl Bytes, packet: &Packet, quote: &mut Packet) -> Result<FlowKey, Reason> {
    let at = packet.transport + size_of::<TransportHeader>() as u32;
    match packet.family {
        Family::V4 => ipv4(bytes.load(at), at, Bound::Quote(packet.end), quote),
        Family::V6 => ipv6(bytes.load(at), bytes, at, Bound::Quote(packet.end), quote),
    }
    .map_err(|_| Reason::UnrelatedIcmp)?;
    // RFC 792 promises the first eight octets of the transport header, no more.
    let cut = quote.transport + size_of::<TransportHeader>() as u32 > quote.end;
    if cut || matches!(quote.fragment, Fragment::Later) {
        return Err(Reason::UnrelatedIcmp);
    }
    match quote.protocol {
        protocol::TCP | protocol::UDP | protocol::ICMP | protocol::ICMPV6 => {}
        _ => return Ok(quote.tuple(0, 0)),
    }
    match ports(bytes, quote).map_err(|_| Reason::UnrelatedIcmp)? {
        Transport::Ports { source, destination } => Ok(quote.tuple(source, destination)),
        Transport::EchoRequest(id) | Transport::EchoReply(id) => Ok(quote.tuple(id, id)),
        // RFC 1122 section 3.2.2: no error about an error.
        Transport::IcmpError | Transport::IcmpOther => Err(Reason::UnrelatedIcmp),
    }
}
