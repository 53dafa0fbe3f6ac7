use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{ARP, IPV4, IPV6, protocol};

/// An Ethernet frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ethernet {
    /// Receiver.
    pub destination: [u8; 6],
    /// Sender.
    pub source: [u8; 6],
    /// VLAN tags, outermost first: the tag's Ethernet type and its control information.
    pub tags: Vec<(u16, u16)>,
    /// What the payload is.
    pub ether_type: u16,
    /// The rest.
    pub payload: Vec<u8>,
}

impl Ethernet {
    /// A frame with an IPv4 or IPv6 packet, as the packet's first octet says.
    pub fn ip(source: [u8; 6], destination: [u8; 6], packet: Vec<u8>) -> Self {
        let ether_type = if packet.first().is_some_and(|octet| octet >> 4 == 6) { IPV6 } else { IPV4 };
        Self { destination, source, tags: Vec::new(), ether_type, payload: packet }
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = [self.destination, self.source].concat();
        for (ether_type, control) in &self.tags {
            out.extend_from_slice(&ether_type.to_be_bytes());
            out.extend_from_slice(&control.to_be_bytes());
        }
        out.extend_from_slice(&self.ether_type.to_be_bytes());
        out.extend_from_slice(&self.payload);
        out
    }
}

/// An IPv4 packet (RFC 791 section 3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv4 {
    /// Sender.
    pub source: Ipv4Addr,
    /// Receiver.
    pub destination: Ipv4Addr,
    /// What the payload is.
    pub protocol: u8,
    /// Same for all fragments of a packet.
    pub id: u16,
    /// Offset in units of 8 octets.
    pub fragment_offset: u16,
    /// Not the last fragment.
    pub more_fragments: bool,
    /// A multiple of 4 octets.
    pub options: Vec<u8>,
    /// The rest.
    pub payload: Vec<u8>,
}

impl Ipv4 {
    /// Without options, in one piece.
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            source,
            destination,
            protocol,
            id: 0x5e1f,
            fragment_offset: 0,
            more_fragments: false,
            options: Vec::new(),
            payload,
        }
    }

    /// As it goes over the wire, with the right lengths and header checksum.
    pub fn bytes(&self) -> Vec<u8> {
        let header_length = 20 + self.options.len();
        let mut out = vec![0x40 | low_octet(header_length / 4), 0];
        out.extend_from_slice(&length(header_length + self.payload.len()));
        out.extend_from_slice(&self.id.to_be_bytes());
        out.extend_from_slice(&(u16::from(self.more_fragments) << 13 | self.fragment_offset).to_be_bytes());
        out.extend_from_slice(&[64, self.protocol, 0, 0]);
        out.extend_from_slice(&self.source.octets());
        out.extend_from_slice(&self.destination.octets());
        out.extend_from_slice(&self.options);
        let sum = checksum(&out).to_be_bytes();
        out[10..12].copy_from_slice(&sum);
        out.extend_from_slice(&self.payload);
        out
    }
}

/// An IPv6 packet (RFC 8200 section 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv6 {
    /// Sender.
    pub source: Ipv6Addr,
    /// Receiver.
    pub destination: Ipv6Addr,
    /// What the payload begins with.
    pub next_header: u8,
    /// Extension headers included.
    pub payload: Vec<u8>,
}

impl Ipv6 {
    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0x60, 0, 0, 0];
        out.extend_from_slice(&length(self.payload.len()));
        out.extend_from_slice(&[self.next_header, 64]);
        out.extend_from_slice(&self.source.octets());
        out.extend_from_slice(&self.destination.octets());
        out.extend_from_slice(&self.payload);
        out
    }
}

/// An IPv6 extension header in the common format (RFC 8200 section 4.2): the type of what follows and `body`,
/// padded to a multiple of 8 octets.
pub fn extension(next_header: u8, body: &[u8]) -> Vec<u8> {
    let size = (2 + body.len()).next_multiple_of(8);
    let mut out = vec![next_header, low_octet(size / 8 - 1)];
    out.extend_from_slice(body);
    out.resize(size, 0);
    out
}

/// An IPv6 fragment header; `offset` in units of 8 octets.
pub fn fragment_header(next_header: u8, offset: u16, more_fragments: bool, id: u32) -> Vec<u8> {
    let mut out = vec![next_header, 0];
    out.extend_from_slice(&(offset << 3 | u16::from(more_fragments)).to_be_bytes());
    out.extend_from_slice(&id.to_be_bytes());
    out
}

/// A UDP datagram between these addresses.
pub fn udp(source: IpAddr, destination: IpAddr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut out = [ports.0.to_be_bytes(), ports.1.to_be_bytes(), length(8 + payload.len()), [0; 2]].concat();
    out.extend_from_slice(payload);
    // RFC 768: a computed zero goes as all ones, zero means "none".
    let sum = match transport_checksum(source, destination, protocol::UDP, &out) {
        0 => 0xffff,
        sum => sum,
    };
    out[6..8].copy_from_slice(&sum.to_be_bytes());
    out
}

/// A TCP segment that opens a connection.
pub fn tcp_syn(source: IpAddr, destination: IpAddr, ports: (u16, u16), sequence: u32) -> Vec<u8> {
    let mut out = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    out.extend_from_slice(&sequence.to_be_bytes());
    // No acknowledgement; five words of header; SYN; a window; checksum and urgent pointer.
    out.extend_from_slice(&[0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = transport_checksum(source, destination, protocol::TCP, &out).to_be_bytes();
    out[16..18].copy_from_slice(&sum);
    out
}

/// An ICMP echo request (RFC 792).
pub fn echo_request4(id: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = echo(8, id, sequence, payload);
    let sum = checksum(&out).to_be_bytes();
    out[2..4].copy_from_slice(&sum);
    out
}

/// An ICMPv6 echo request (RFC 4443 section 4.1).
pub fn echo_request6(source: Ipv6Addr, destination: Ipv6Addr, id: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = echo(128, id, sequence, payload);
    let sum = transport_checksum(source.into(), destination.into(), protocol::ICMPV6, &out).to_be_bytes();
    out[2..4].copy_from_slice(&sum);
    out
}

/// A frame that asks all who has `wanted` (RFC 826).
pub fn arp_request(mac: [u8; 6], address: Ipv4Addr, wanted: Ipv4Addr) -> Ethernet {
    // Ethernet and IPv4, their lengths, "request".
    let mut payload = vec![0, 1, 8, 0, 6, 4, 0, 1];
    payload.extend_from_slice(&mac);
    payload.extend_from_slice(&address.octets());
    payload.extend_from_slice(&[0; 6]);
    payload.extend_from_slice(&wanted.octets());
    Ethernet { destination: [0xff; 6], source: mac, tags: Vec::new(), ether_type: ARP, payload }
}

fn echo(kind: u8, id: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 0, 0, 0];
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// Over the pseudo-header of RFC 768 or RFC 8200 section 8.1, which sum to the same.
fn transport_checksum(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mut covered = [octets(source), octets(destination)].concat();
    covered.extend_from_slice(&[0, protocol]);
    covered.extend_from_slice(&length(segment.len()));
    covered.extend_from_slice(segment);
    checksum(&covered)
}

/// A length field; packets built here are far below 64 KiB.
fn length(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

fn low_octet(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_with_its_checksums_sums_to_zero() {
        let (a, b) = (Ipv4Addr::new(10, 208, 0, 2), Ipv4Addr::new(10, 208, 0, 3));
        let packet = Ipv4::new(a, b, protocol::UDP, udp(a.into(), b.into(), (1, 2), b"odd")).bytes();
        assert_eq!(checksum(&packet[..20]), 0);
        assert_eq!(transport_checksum(a.into(), b.into(), protocol::UDP, &packet[20..]), 0);
        assert_eq!(checksum(&echo_request4(7, 1, b"odd")), 0);
    }

    #[test]
    fn an_extension_header_is_whole_words_of_eight() {
        assert_eq!(extension(protocol::UDP, &[]).len(), 8);
        assert_eq!(extension(protocol::UDP, &[0; 7]), [&[protocol::UDP, 1][..], &[0; 14]].concat());
    }
}
