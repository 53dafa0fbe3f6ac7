use crate::checksum::Sum;

/// A header as it lies in a frame: any octets make a valid value.
///
/// # Safety
/// The implementor is `repr(C)`, of integers or arrays of them, without padding.
pub unsafe trait Wire: Copy {}

// SAFETY: octets.
unsafe impl<const N: usize> Wire for [u8; N] {}
// SAFETY: octets.
unsafe impl<const N: usize, const M: usize> Wire for [[u8; M]; N] {}
// SAFETY: integers.
unsafe impl<const N: usize> Wire for [u16; N] {}
// SAFETY: integers.
unsafe impl<const N: usize> Wire for [u32; N] {}

/// Ethernet types, in host order.
pub mod ether_type {
    #![expect(missing_docs, reason = "the names are IEEE's")]
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const VLAN: u16 = 0x8100;
    pub const IPV6: u16 = 0x86dd;
    pub const PROVIDER_VLAN: u16 = 0x88a8;
}

/// IP protocol numbers.
pub mod protocol {
    #![expect(missing_docs, reason = "the names are IANA's")]
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const IGMP: u8 = 2;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const DESTINATION_OPTIONS: u8 = 60;
    pub const MOBILITY: u8 = 135;
    pub const HOST_IDENTITY: u8 = 139;
    pub const SHIM6: u8 = 140;
}

/// The Ethernet header.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ethernet {
    /// Whom the frame is for.
    pub destination: [u8; 6],
    /// Who says to have sent it.
    pub source: [u8; 6],
    /// [`ether_type`], network order.
    pub ether_type: u16,
}

impl Ethernet {
    /// The header in front of a packet that begins with this octet, which says the IP version; nobody's addresses.
    #[inline(always)]
    #[must_use]
    pub const fn before(first: u8) -> Self {
        let ether_type = match first >> 4 {
            4 => ether_type::IPV4,
            6 => ether_type::IPV6,
            _ => 0,
        };
        Self { destination: [0; 6], source: [0; 6], ether_type: ether_type.to_be() }
    }
}

/// The IPv4 header without options (RFC 791 section 3.1).
///
/// Words, not fields: a program copies a structure in the units that its fields allow, and octets cost it four times as
/// much.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4 {
    /// Version and header length in words of four octets, a nibble each; type of service; total length.
    head: u32,
    /// Which datagram a fragment belongs to; flags and offset.
    fragment: u32,
    /// Time to live, protocol, checksum of the header.
    tail: u32,
    /// Network order.
    pub source: u32,
    /// Network order.
    pub destination: u32,
}

impl Ipv4 {
    /// Header length without options, in words of four octets.
    pub const WORDS: u32 = 5;
    /// More fragments follow.
    pub const MORE: u16 = 0x2000;
    /// Where in the datagram the fragment lies, in units of eight octets.
    pub const OFFSET: u16 = 0x1fff;
    /// Don't fragment.
    const DF: u16 = 0x4000;
    /// Time to live of a packet that starts here.
    const TTL: u8 = 64;
    /// IPv4 without options.
    const VERSION_WORDS: u8 = 0x45;

    /// IP version.
    #[inline(always)]
    pub const fn version(&self) -> u8 {
        self.head.to_ne_bytes()[0] >> 4
    }

    /// Header length in words of four octets.
    #[inline(always)]
    pub const fn words(&self) -> u32 {
        (self.head.to_ne_bytes()[0] & 0xf) as u32
    }

    /// Octets of header and payload.
    #[inline(always)]
    pub const fn total_len(&self) -> u32 {
        u32::from_be(self.head) & 0xffff
    }

    /// The identification field as it lies in the packet.
    #[inline(always)]
    pub const fn id(&self) -> u16 {
        let [a, b, _, _] = self.fragment.to_ne_bytes();
        u16::from_ne_bytes([a, b])
    }

    /// Flags and offset.
    #[inline(always)]
    pub const fn fragment(&self) -> u16 {
        u32::from_be(self.fragment) as u16
    }

    /// [`protocol`].
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        self.tail.to_ne_bytes()[1]
    }

    /// The header of the answer to this packet, of the same type of service, with that many octets after it.
    #[inline(always)]
    #[must_use]
    pub const fn answer(&self, protocol: u8, payload_len: u16) -> Self {
        let [_, service, ..] = self.head.to_ne_bytes();
        let [l0, l1] = (size_of::<Self>() as u16 + payload_len).to_be_bytes();
        let [d0, d1] = Self::DF.to_be_bytes();
        let (source, destination) = (self.destination, self.source);
        let head = u32::from_ne_bytes([Self::VERSION_WORDS, service, l0, l1]);
        // RFC 6864 section 4.1: a packet that is never fragmented needs no identification.
        let fragment = u32::from_ne_bytes([0, 0, d0, d1]);
        let tail = u32::from_ne_bytes([Self::TTL, protocol, 0, 0]);
        let sum = Sum::ZERO.word(head).word(fragment).word(tail).word(source).word(destination);
        let [c0, c1] = sum.finish().to_ne_bytes();
        let tail = u32::from_ne_bytes([Self::TTL, protocol, c0, c1]);
        Self { head, fragment, tail, source, destination }
    }
}

/// The IPv6 header (RFC 8200 section 3). Words, as in [`Ipv4`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6 {
    /// Version, traffic class, flow label.
    head: u32,
    /// Octets after this header; [`protocol`] of what follows; hop limit.
    payload: u32,
    /// Network order.
    pub source: [u32; 4],
    /// Network order.
    pub destination: [u32; 4],
}

impl Ipv6 {
    /// Hop limit of a packet that starts here.
    const HOPS: u8 = 64;

    /// IP version.
    #[inline(always)]
    pub const fn version(&self) -> u8 {
        self.head.to_ne_bytes()[0] >> 4
    }

    /// Octets after this header.
    #[inline(always)]
    pub const fn payload_len(&self) -> u32 {
        u32::from_be(self.payload) >> 16
    }

    /// [`protocol`] of what follows.
    #[inline(always)]
    pub const fn next_header(&self) -> u8 {
        self.payload.to_ne_bytes()[2]
    }

    /// The header of the answer to this packet, with that many octets after it.
    #[inline(always)]
    #[must_use]
    pub const fn answer(&self, next_header: u8, payload_len: u16) -> Self {
        let [l0, l1] = payload_len.to_be_bytes();
        Self {
            head: u32::from_ne_bytes([0x60, 0, 0, 0]),
            payload: u32::from_ne_bytes([l0, l1, next_header, Self::HOPS]),
            source: self.destination,
            destination: self.source,
        }
    }
}

/// What the extension headers have in common.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extension {
    /// [`protocol`] of what follows.
    pub(super) next_header: u8,
    /// Length; the unit depends on the header.
    pub(super) len: u8,
}

/// The fragment header (RFC 8200 section 4.5).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FragmentHeader {
    /// [`protocol`] of what follows.
    pub(super) next_header: u8,
    /// Zero.
    pub(super) reserved: u8,
    /// Offset and flag, network order.
    pub(super) offset_more: u16,
    /// Which datagram, as it lies in the packet.
    pub(super) id: [u16; 2],
}

impl FragmentHeader {
    /// More fragments follow.
    pub(super) const MORE: u16 = 0x0001;
    /// Where in the datagram the fragment lies, in units of one octet, of which the lower three are zero.
    pub(super) const OFFSET: u16 = 0xfff8;
}

/// The UDP header (RFC 768), network order.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Udp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Octets of header and payload.
    pub len: u16,
    /// Of the pseudo-header, header and payload.
    pub checksum: u16,
}

/// The first eight octets of TCP, UDP and ICMP, as much as a decision reads.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransportHeader {
    /// TCP and UDP: source port; ICMP: type and code, an octet each in this order.
    pub first: [u8; 2],
    /// TCP and UDP: destination port, network order; ICMP: checksum.
    pub second: u16,
    /// ICMP echo: the identifier, network order; UDP: the length.
    pub third: u16,
    /// UDP and ICMP echo: checksum, sequence number.
    pub fourth: u16,
}

macro_rules! wire {
    ($($type:ty: $size:literal),* $(,)?) => {$(
        const _: () = assert!(size_of::<$type>() == $size);
        // SAFETY: repr(C) of integers and integer arrays without padding: the size asserted above is the sum of the fields.
        unsafe impl Wire for $type {}
    )*};
}
wire! {
    Ethernet: 14,
    Ipv4: 20,
    Ipv6: 40,
    Extension: 2,
    FragmentHeader: 8,
    Udp: 8,
    TransportHeader: 8,
}
