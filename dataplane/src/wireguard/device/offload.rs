//! What stands in front of each packet of the TUN device: what the host's stack has left to do, or may spare itself.
//!
//! The stack handles many TCP segments as one packet ("segmentation offload"). Where they are cut apart here and put
//! together again on the other node, everything between a socket and the cipher is paid for once, not for each.

use dataplane_ebpf::checksum::Sum;

/// Octets of [`Offload`] in front of a packet.
pub(super) const OFFLOAD_LEN: usize = 10;
/// Octets of the headers of a TCP segment at most: IP, with what IPv6 may put after it, and TCP.
pub(super) const HEAD_MAX: usize = 256;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum field has the sum of the pseudo-header; the rest is to be added.
const NEEDS_CHECKSUM: u8 = 1;

/// IP protocol number of TCP.
const TCP: u8 = 6;
/// Where the TCP header has its checksum.
pub(super) const TCP_CHECKSUM: usize = 16;
/// Octets of the IPv4 header without options, and of the IPv6 header.
pub(super) const IPV4_LEN: usize = 20;
pub(super) const IPV6_LEN: usize = 40;

/// `struct virtio_net_hdr` (Virtio 1.2 section 5.1.6; the fields of a TUN device are in the host's byte order).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Offload {
    flags: u8,
    pub(super) kind: Kind,
    /// Octets of all headers.
    head_len: u16,
    /// Octets of payload in each segment but the last, which may have fewer.
    pub(super) step: u16,
    /// Where the checksum begins to count, and where it is from there.
    pub(super) checksum_start: u16,
    checksum_offset: u16,
}

/// What a packet stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Kind {
    /// Itself.
    #[default]
    One,
    /// TCP segments over IPv4 or IPv6.
    Tcp4,
    Tcp6,
    /// Something that nobody asked for.
    Other,
}

impl Offload {
    /// In front of TCP segments whose checksum field has the sum of the pseudo-header.
    pub(super) fn tcp(ip_len: usize, head_len: usize, step: usize) -> Self {
        Self {
            flags: NEEDS_CHECKSUM,
            kind: if ip_len == IPV4_LEN { Kind::Tcp4 } else { Kind::Tcp6 },
            head_len: head_len as u16,
            step: step as u16,
            checksum_start: ip_len as u16,
            checksum_offset: TCP_CHECKSUM as u16,
        }
    }

    /// As the device has it.
    pub(super) fn octets(self) -> [u8; OFFLOAD_LEN] {
        let kind = match self.kind {
            Kind::One | Kind::Other => 0,
            Kind::Tcp4 => 1,
            Kind::Tcp6 => 4,
        };
        let [[a, b], [c, d], [e, f], [g, h]] =
            [self.head_len, self.step, self.checksum_start, self.checksum_offset].map(u16::to_ne_bytes);
        [self.flags, kind, a, b, c, d, e, f, g, h]
    }

    /// Completes the checksum of a packet that is to be one.
    pub(super) fn complete(&self, packet: &mut [u8]) -> Option<()> {
        if self.flags & NEEDS_CHECKSUM == 0 {
            return Some(());
        }
        let start = usize::from(self.checksum_start);
        let at = start + usize::from(self.checksum_offset);
        let sum = Sum::ZERO.octets(packet.get(start..)?).finish();
        // RFC 768: zero says that there is none. It is the same number as all ones, for every protocol.
        let sum = if sum == 0 { u16::MAX } else { sum };
        packet.get_mut(at..at + 2)?.copy_from_slice(&sum.to_ne_bytes());
        Some(())
    }
}

impl From<[u8; OFFLOAD_LEN]> for Offload {
    fn from([flags, kind, a, b, c, d, e, f, g, h]: [u8; OFFLOAD_LEN]) -> Self {
        let kind = match kind {
            0 => Kind::One,
            1 => Kind::Tcp4,
            4 => Kind::Tcp6,
            _ => Kind::Other,
        };
        let [head_len, step, checksum_start, checksum_offset] =
            [[a, b], [c, d], [e, f], [g, h]].map(u16::from_ne_bytes);
        Self { flags, kind, head_len, step, checksum_start, checksum_offset }
    }
}

/// Whether the packet is IPv4; else it is IPv6, as nothing else comes this far.
pub(super) fn is_ipv4(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 4)
}

/// The sum of the pseudo-header of a TCP packet whose IP headers have that many octets.
pub(super) fn pseudo(packet: &[u8], ip_len: usize) -> Sum {
    let addresses = if is_ipv4(packet) { &packet[12..IPV4_LEN] } else { &packet[8..IPV6_LEN] };
    let len = (packet.len() - ip_len) as u16;
    Sum::ZERO.octets(addresses).half(u16::from(TCP).to_be()).half(len.to_be())
}

/// Writes the length of a packet into its IP header, and what follows from it.
pub(super) fn set_len(packet: &mut [u8]) {
    let len = packet.len();
    if is_ipv4(packet) {
        packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        packet[10..12].fill(0);
        let words = usize::from(packet[0] & 0xf);
        let sum = Sum::ZERO.octets(&packet[..words * 4]).finish();
        packet[10..12].copy_from_slice(&sum.to_ne_bytes());
    } else {
        packet[4..6].copy_from_slice(&((len - IPV6_LEN) as u16).to_be_bytes());
    }
}
