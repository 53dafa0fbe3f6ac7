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

/// The IPv4 header without options (RFC 791 section 3.1).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4 {
    /// Version and header length in words of four octets, a nibble each.
    pub version_words: u8,
    /// Type of service.
    pub service: u8,
    /// Octets of header and payload, network order.
    pub total_len: u16,
    /// Which datagram a fragment belongs to.
    pub id: u16,
    /// Flags and offset, network order.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// [`protocol`].
    pub protocol: u8,
    /// Of the header.
    pub checksum: u16,
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
}

/// The IPv6 header (RFC 8200 section 3).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6 {
    /// Version and half of the traffic class.
    pub version_class: u8,
    /// The other half and the flow label.
    pub flow_label: [u8; 3],
    /// Octets after this header, network order.
    pub payload_len: u16,
    /// [`protocol`] of what follows.
    pub next_header: u8,
    /// Hop limit.
    pub hops: u8,
    /// Network order.
    pub source: [u32; 4],
    /// Network order.
    pub destination: [u32; 4],
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
