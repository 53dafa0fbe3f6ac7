//! What a frame says, read from its octets and believed in nothing.
//!
//! Parsing goes as far as it must: Ethernet and IP for every packet, the transport header only when a decision
//! needs it. Traffic inside an environment never does.

mod bytes;
mod headers;
pub mod reply;
pub mod too_big;
mod transport;

pub use bytes::Bytes;
pub use headers::{Ethernet, Ipv4, Ipv6, TransportHeader, Udp, Wire, ether_type, protocol};
pub use transport::{Transport, embedded, refuse_link_messages, transport};

use crate::abi::{Addr, FlowKey, Reason};
use headers::{Extension, FragmentHeader};

/// Octets of the Ethernet header.
pub const ETHERNET_LEN: u32 = size_of::<Ethernet>() as u32;

/// How many IPv6 extension headers a packet may carry. Linux sends two at most.
pub const EXTENSIONS_MAX: u32 = 6;

/// IP version of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Family {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fragment {
    /// All of it.
    #[default]
    Whole,
    /// The fragment that carries the transport header.
    First,
    /// A later one.
    Later,
}

/// An IP packet, parsed up to its transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Packet {
    /// Where it says it comes from.
    pub source: Addr,
    /// Where it wants to go.
    pub destination: Addr,
    /// IP version.
    pub family: Family,
    /// IP protocol number of the transport header; in a later fragment, what the fragment header says.
    pub protocol: u8,
    /// Which part of a datagram.
    pub fragment: Fragment,
    /// Which datagram: the identification field as it lies in the packet, or zero when it is whole.
    pub id: u32,
    /// Offset of the transport header in the frame.
    pub transport: u32,
    /// Offset of the first octet after the IP packet; the frame may be longer (Ethernet pads to 60 octets).
    pub end: u32,
}

impl Packet {
    /// The tuple of the packet with these ports, or identifiers, in network order.
    #[inline(always)]
    pub const fn tuple(&self, source_port: u16, destination_port: u16) -> FlowKey {
        FlowKey {
            source: self.source,
            destination: self.destination,
            source_port,
            destination_port,
            protocol: self.protocol,
            pad: [0; 3],
        }
    }

    /// The key under which the fragments of this datagram are remembered. No packet has the protocol it uses, as
    /// parsing goes past a fragment header. RFC 791 and RFC 8200 section 4.5 say what makes a datagram one.
    #[inline(always)]
    pub const fn fragments(&self) -> FlowKey {
        let (low, high) = match self.family {
            Family::V4 => (self.id as u16, self.protocol as u16),
            Family::V6 => (self.id as u16, (self.id >> 16) as u16),
        };
        FlowKey { protocol: protocol::FRAGMENT, ..self.tuple(low, high) }
    }
}

/// Parses the IP packet that follows the Ethernet header, into memory that the caller has: a program has little stack,
/// and a value that is returned is on it twice. `gso`: the frame stands for several packets.
///
/// # Errors
/// The reason to drop it.
#[inline(always)]
pub fn network(bytes: &impl Bytes, ether_type: u16, gso: bool, packet: &mut Packet) -> Result<(), Reason> {
    let len = bytes.len();
    match ether_type {
        ether_type::IPV4 => {
            let bound = if gso && len > BIG { Bound::Big(len) } else { Bound::Frame(len) };
            ipv4(bytes.head::<_, ETHERNET_LEN>(), ETHERNET_LEN, bound, packet)
        }
        ether_type::IPV6 => ipv6(bytes.head::<_, ETHERNET_LEN>(), bytes, ETHERNET_LEN, Bound::Frame(len), packet),
        ether_type::ARP => Err(Reason::Arp),
        ether_type::VLAN | ether_type::PROVIDER_VLAN => Err(Reason::VlanTag),
        _ => Err(Reason::EtherType),
    }
}

/// The tuple of a frame as far as it can be read, for people: zeros where it cannot.
#[inline(always)]
pub fn tuple(bytes: &impl Bytes, gso: bool, packet: &mut Packet) -> FlowKey {
    let Some(ethernet) = bytes.head::<Ethernet, 0>() else { return FlowKey::default() };
    if network(bytes, u16::from_be(ethernet.ether_type), gso, packet).is_err() {
        return FlowKey::default();
    }
    let ports = if matches!(packet.fragment, Fragment::Later) { None } else { transport(bytes, packet).ok() };
    match ports {
        Some(Transport::Ports { source, destination }) => packet.tuple(source, destination),
        Some(Transport::EchoRequest(id) | Transport::EchoReply(id)) => packet.tuple(id, id),
        _ => packet.tuple(0, 0),
    }
}

/// Octets of the longest frame whose IPv4 header can say how long it is.
const BIG: u32 = ETHERNET_LEN + u16::MAX as u32;

/// What the lengths of an IP header are measured against.
#[derive(Clone, Copy)]
enum Bound {
    /// The frame's end: the packet lies in it whole.
    Frame(u32),
    /// The frame's end, too. It stands for so many TCP segments that their length does not fit into an IPv4 header,
    /// which says zero instead ("BIG TCP", Linux 6.3).
    Big(u32),
    /// The end of an ICMP error, which quotes the packet's beginning only.
    Quote(u32),
}

impl Bound {
    /// Where the octets of a packet end whose header says that it has `len` from `at` on, or leaves it unsaid.
    #[inline(always)]
    fn end(self, at: u32, len: u32, unsaid: bool) -> Result<u32, Reason> {
        match self {
            Self::Frame(_) if unsaid => Err(Reason::BadLength),
            Self::Big(bound) if unsaid => Ok(bound),
            Self::Frame(bound) | Self::Big(bound) if at + len > bound => Err(Reason::BadLength),
            Self::Frame(_) | Self::Big(_) => Ok(at + len),
            Self::Quote(bound) => Ok(bound),
        }
    }

    /// Whether options are let through: not sent by a replica, but a quoted packet may have come from anywhere.
    #[inline(always)]
    fn options(self) -> bool {
        matches!(self, Self::Quote(_))
    }
}

#[inline(always)]
fn ipv4(header: Option<Ipv4>, at: u32, bound: Bound, packet: &mut Packet) -> Result<(), Reason> {
    let header = header.ok_or(Reason::BadLength)?;
    let (words, total) = (header.words(), header.total_len());
    let unsaid = total == 0 && header.protocol() == protocol::TCP;
    if header.version() != 4 || words < Ipv4::WORDS || total < words * 4 && !unsaid {
        return Err(Reason::BadLength);
    }
    if words > Ipv4::WORDS && !bound.options() {
        // RFC 3376 section 4: every report has an option, and is for the next router alone.
        return Err(if header.protocol() == protocol::IGMP { Reason::MulticastReport } else { Reason::Ipv4Options });
    }
    let fragment = match header.fragment() {
        field if field & Ipv4::OFFSET != 0 => Fragment::Later,
        field if field & Ipv4::MORE != 0 => Fragment::First,
        _ => Fragment::Whole,
    };
    *packet = Packet {
        source: Addr::from_v4_word(header.source),
        destination: Addr::from_v4_word(header.destination),
        family: Family::V4,
        protocol: header.protocol(),
        fragment,
        id: if matches!(fragment, Fragment::Whole) { 0 } else { header.id().into() },
        transport: at + words * 4,
        end: bound.end(at, total, unsaid)?,
    };
    Ok(())
}

#[inline(always)]
fn ipv6(header: Option<Ipv6>, bytes: &impl Bytes, at: u32, bound: Bound, packet: &mut Packet) -> Result<(), Reason> {
    let header = header.ok_or(Reason::BadLength)?;
    if header.version() != 6 {
        return Err(Reason::BadLength);
    }
    let transport = at + size_of::<Ipv6>() as u32;
    let end = bound.end(transport, header.payload_len(), false)?;
    *packet = Packet {
        source: Addr(header.source),
        destination: Addr(header.destination),
        family: Family::V6,
        protocol: header.next_header(),
        fragment: Fragment::Whole,
        id: 0,
        transport,
        end,
    };
    if is_extension(packet.protocol) {
        extensions(bytes, packet)?;
    }
    Ok(())
}

/// Goes past the extension headers. RFC 7112: the first fragment carries every header, so a chain that the packet's
/// end cuts is none.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn extensions(bytes: &impl Bytes, packet: &mut Packet) -> Result<(), Reason> {
    let mut count = 0;
    while is_extension(packet.protocol) && !matches!(packet.fragment, Fragment::Later) {
        if count == EXTENSIONS_MAX {
            return Err(Reason::ExtensionHeaders);
        }
        extension(bytes, packet)?;
        count += 1;
    }
    Ok(())
}

#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HOST_IDENTITY
            | protocol::SHIM6
    )
}

/// Goes past one extension header (RFC 8200 section 4).
#[inline(always)]
fn extension(bytes: &impl Bytes, packet: &mut Packet) -> Result<(), Reason> {
    let header: Extension = bytes.load(packet.transport).ok_or(Reason::BadLength)?;
    let len = match packet.protocol {
        protocol::ROUTING => return Err(Reason::RoutingHeader),
        protocol::FRAGMENT => {
            let header: FragmentHeader = bytes.load(packet.transport).ok_or(Reason::BadLength)?;
            let field = u16::from_be(header.offset_more);
            // A fragment header on a whole datagram (RFC 6946) changes nothing.
            if field & FragmentHeader::OFFSET != 0 {
                packet.fragment = Fragment::Later;
            } else if field & FragmentHeader::MORE != 0 {
                packet.fragment = Fragment::First;
            }
            packet.id = u32::from(header.id[0]) | u32::from(header.id[1]) << 16;
            8
        }
        // RFC 4302 section 2.2: in words of four octets, less two.
        protocol::AUTHENTICATION => (u32::from(header.len) + 2) * 4,
        _ => (u32::from(header.len) + 1) * 8,
    };
    packet.protocol = header.next_header;
    packet.transport += len;
    if packet.transport > packet.end { Err(Reason::BadLength) } else { Ok(()) }
}
