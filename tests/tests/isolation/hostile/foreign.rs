use std::net::IpAddr;

use dataplane_ebpf::abi::Reason;
use tests::raw::{self, Ethernet, Ipv4, Ipv6, protocol};

use super::Trick;
use super::tricks::{frame, udp4, udp6, with_extensions};
use crate::bed::{Bed, Replica};

/// All shapes of packets from one replica to another, none of which may cross; `reason` is why a whole packet may not.
pub(super) fn shapes(source: &Replica, destination: &Replica, reason: Reason) -> Vec<Trick> {
    let mut tricks = shapes4(source, destination, reason);
    tricks.extend(shapes6(source, destination, reason));
    tricks.extend(to_other_macs(source, destination, reason));
    tricks
}

/// Fragments of a datagram: offset in units of eight octets, whether more follow, octets.
const FRAGMENTS: [(&str, u16, bool, usize); 6] = [
    ("first fragment", 0, true, 24),
    ("first fragment of eight octets", 0, true, 8),
    ("second fragment", 3, true, 24),
    ("overlapping fragment", 1, true, 24),
    ("last fragment", 8, false, 16),
    ("last fragment at the very end", 0x1ffd, false, 16),
];

/// A later fragment is refused for its first one's sake.
fn reason_of_fragment(offset: u16, reason: Reason) -> Reason {
    if offset == 0 { reason } else { Reason::OrphanFragment }
}

fn shapes4(source: &Replica, destination: &Replica, reason: Reason) -> Vec<Trick> {
    let (from, to) = (source.veth.address4, destination.veth.address4);
    let plain = udp4(source, to);
    let mut tricks = Vec::new();
    let mut add = |what: &str, packet: Ipv4, reason| {
        tricks.push(Trick::dropped(format!("IPv4: {what}"), frame(source, packet.bytes()), reason));
    };
    let syn = raw::tcp_syn(from.into(), to.into(), (40_000, 80), 1);
    let tiny = Ipv4 { more_fragments: true, ..Ipv4::new(from, to, protocol::TCP, syn[..8].to_vec()) };
    let echo = raw::echo_request4(1, 1, b"ping");
    add("UDP", plain.clone(), reason);
    add("UDP header cut short", Ipv4 { payload: plain.payload[..4].to_vec(), ..plain.clone() }, Reason::BadLength);
    add("TCP SYN", Ipv4::new(from, to, protocol::TCP, syn), reason);
    add("TCP SYN without its flags, which follow in a fragment", tiny, Reason::BadLength);
    add("echo request", Ipv4::new(from, to, protocol::ICMP, echo), reason);
    for (what, number) in OTHERS {
        add(what, Ipv4 { protocol: number, ..plain.clone() }, reason);
    }
    for (what, fragment_offset, more_fragments, length) in FRAGMENTS {
        let payload = plain.payload[..length].to_vec();
        let packet = Ipv4 { fragment_offset, more_fragments, payload, ..plain.clone() };
        add(what, packet, reason_of_fragment(fragment_offset, reason));
    }
    tricks
}

fn shapes6(source: &Replica, destination: &Replica, reason: Reason) -> Vec<Trick> {
    let (from, to) = (source.veth.address6, destination.veth.address6);
    let plain = udp6(source, to);
    let mut tricks = Vec::new();
    let mut add = |what: &str, packet: Ipv6, reason| {
        tricks.push(Trick::dropped(format!("IPv6: {what}"), frame(source, packet.bytes()), reason));
    };
    let of = |next_header, payload| Ipv6 { next_header, payload, ..plain.clone() };
    add("UDP", plain.clone(), reason);
    add("UDP header cut short", of(protocol::UDP, plain.payload[..4].to_vec()), Reason::BadLength);
    add("TCP SYN", of(protocol::TCP, raw::tcp_syn(from.into(), to.into(), (40_000, 80), 1)), reason);
    add("echo request", of(protocol::ICMPV6, raw::echo_request6(from, to, 1, 1, b"ping")), reason);
    for (what, number) in OTHERS.into_iter().chain([("no next header", protocol::NONE)]) {
        add(what, of(number, plain.payload.clone()), reason);
    }
    for (what, kind) in [("hop-by-hop options", protocol::HOP_BY_HOP), ("destination options", protocol::DESTINATION)] {
        add(&format!("UDP behind {what}"), with_extensions(&plain, &[(kind, &[])]), reason);
    }
    for (what, offset, more, length) in FRAGMENTS {
        let header = raw::fragment_header(protocol::UDP, offset, more, 9);
        let payload = [&header, &plain.payload[..length]].concat();
        add(what, of(protocol::FRAGMENT, payload), reason_of_fragment(offset, reason));
    }
    tricks
}

/// Protocols that nothing looks into.
const OTHERS: [(&str, u8); 5] = [
    ("IPv4 in IP", protocol::IPIP),
    ("IPv6 in IP", protocol::IPV6_IN_IP),
    ("GRE", protocol::GRE),
    ("ESP", protocol::ESP),
    ("SCTP", protocol::SCTP),
];

/// Past the gateway, straight to the victim's MAC or to all.
fn to_other_macs(source: &Replica, destination: &Replica, reason: Reason) -> Vec<Trick> {
    let mut tricks = Vec::new();
    for (what, mac) in [("the victim's MAC", destination.veth.mac), ("all MACs", [0xff; 6])] {
        for packet in [udp4(source, destination.veth.address4).bytes(), udp6(source, destination.veth.address6).bytes()]
        {
            let frame = Ethernet::ip(source.veth.mac, mac, packet);
            tricks.push(Trick::dropped(format!("to {what}"), frame.bytes(), reason));
        }
    }
    tricks
}

/// TCP and UDP that were never translated; virtual addresses that are none of the sender's; the DNS address.
pub(super) fn virtual_addresses(bed: &Bed, source: &Replica, allowed: &Replica) -> anyhow::Result<Vec<Trick>> {
    let same_environment = bed.named("shop/production/db")?.service;
    let other_environment = bed.named("shop/staging/web")?.service;
    let mut tricks = Vec::new();
    for ipv6 in [false, true] {
        let mut add = |what: &str, to: IpAddr, reason| {
            for (kind, number) in [("TCP", protocol::TCP), ("UDP", protocol::UDP)] {
                let packet = segment(source, to, number, 80);
                tricks.push(Trick::dropped(format!("{kind} to {what}"), frame(source, packet), reason));
            }
        };
        add("an allowed virtual address", bed.vip(allowed.service, ipv6), Reason::UntranslatedVip);
        add("one without a shared network", bed.vip(same_environment, ipv6), Reason::UnknownVip);
        add("another environment's", bed.vip(other_environment, ipv6), Reason::UnknownVip);
        let free: IpAddr = if ipv6 { "fd53:6b65:7001::ffff".parse()? } else { "10.224.255.1".parse()? };
        add("a free virtual address", free, Reason::UnknownVip);
        let free: IpAddr = if ipv6 { "fd53:6b65:7000::ffff".parse()? } else { "10.208.255.1".parse()? };
        add("a free container address", free, Reason::UnknownAddress);
    }
    let to_dns = segment(source, crate::bed::DNS.into(), protocol::UDP, 5353);
    tricks.push(Trick::dropped("UDP 5353 to the DNS address", frame(source, to_dns), Reason::DnsPort));
    let to_dns = segment(source, crate::bed::DNS.into(), protocol::TCP, 80);
    tricks.push(Trick::dropped("TCP 80 to the DNS address", frame(source, to_dns), Reason::DnsPort));
    Ok(tricks)
}

/// A TCP or UDP packet from `source` to any address.
fn segment(source: &Replica, to: IpAddr, number: u8, port: u16) -> Vec<u8> {
    let from = source.address(to.is_ipv6());
    let payload = match number {
        protocol::TCP => raw::tcp_syn(from, to, (40_000, port), 1),
        _ => raw::udp(from, to, (40_000, port), b"never translated"),
    };
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Ipv4::new(from, to, number, payload).bytes(),
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Ipv6 { source: from, destination: to, next_header: number, payload }.bytes()
        }
        _ => Vec::new(),
    }
}
