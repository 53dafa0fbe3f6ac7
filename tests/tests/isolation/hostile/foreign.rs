use std::net::IpAddr;

use dataplane_ebpf::abi::Reason;
use tests::raw::{self, Ethernet, Ipv4, Ipv6, protocol};

use super::Trick;
use super::tricks::{frame, udp4, udp6, with_extensions};
use crate::bed::{Bed, Replica};

/// All shapes of packets from one replica to another, none of which may cross.
pub(super) fn shapes(source: &Replica, destination: &Replica, reason: Reason) -> Vec<Trick> {
    let (s, d) = (&source.veth, &destination.veth);
    let mut tricks = Vec::new();
    let mut add = |what: String, packet: Vec<u8>| tricks.push(Trick::dropped(what, frame(source, packet), reason));

    let plain4 = udp4(source, d.address4);
    add("IPv4: UDP".into(), plain4.bytes());
    add("IPv4: TCP SYN".into(), {
        let segment = raw::tcp_syn(s.address4.into(), d.address4.into(), (40_000, 80), 1);
        Ipv4::new(s.address4, d.address4, protocol::TCP, segment).bytes()
    });
    let echo = raw::echo_request4(1, 1, b"ping");
    add("IPv4: echo request".into(), Ipv4::new(s.address4, d.address4, protocol::ICMP, echo).bytes());
    for (what, number) in others() {
        add(format!("IPv4: {what}"), Ipv4 { protocol: number, ..plain4.clone() }.bytes());
    }
    let pieces4 = [
        ("first fragment", 0, true, 24),
        ("first fragment of eight octets", 0, true, 8),
        ("second fragment", 3, true, 24),
        ("overlapping fragment", 1, true, 24),
        ("last fragment", 8, false, 16),
        ("last fragment at the very end", 0x1ffd, false, 16),
    ];
    for (what, fragment_offset, more_fragments, length) in pieces4 {
        let payload = plain4.payload[..length.min(plain4.payload.len())].to_vec();
        add(format!("IPv4: {what}"), Ipv4 { fragment_offset, more_fragments, payload, ..plain4.clone() }.bytes());
    }

    let plain6 = udp6(source, d.address6);
    add("IPv6: UDP".into(), plain6.bytes());
    add("IPv6: TCP SYN".into(), {
        let payload = raw::tcp_syn(s.address6.into(), d.address6.into(), (40_000, 80), 1);
        Ipv6 { next_header: protocol::TCP, payload, ..plain6.clone() }.bytes()
    });
    let payload = raw::echo_request6(s.address6, d.address6, 1, 1, b"ping");
    add("IPv6: echo request".into(), Ipv6 { next_header: protocol::ICMPV6, payload, ..plain6.clone() }.bytes());
    for (what, number) in others().into_iter().chain([("no next header", protocol::NONE)]) {
        add(format!("IPv6: {what}"), Ipv6 { next_header: number, ..plain6.clone() }.bytes());
    }
    for (what, kind) in [("hop-by-hop options", protocol::HOP_BY_HOP), ("destination options", protocol::DESTINATION)] {
        add(format!("IPv6: UDP behind {what}"), with_extensions(&plain6, &[(kind, &[])]).bytes());
    }
    for (what, offset, more, length) in pieces4 {
        let header = raw::fragment_header(protocol::UDP, offset, more, 9);
        let payload = [&header, &plain6.payload[..length.min(plain6.payload.len())]].concat();
        add(format!("IPv6: {what}"), Ipv6 { next_header: protocol::FRAGMENT, payload, ..plain6.clone() }.bytes());
    }
    tricks.extend(to_the_victims_mac(source, destination, reason));
    tricks
}

/// Protocols that nothing looks into.
fn others() -> [(&'static str, u8); 5] {
    [("IPv4 in IP", protocol::IPIP), ("IPv6 in IP", 41), ("GRE", 47), ("ESP", protocol::ESP), ("SCTP", protocol::SCTP)]
}

/// Past the gateway, straight to the victim's MAC or to all.
fn to_the_victims_mac(source: &Replica, destination: &Replica, reason: Reason) -> Vec<Trick> {
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
