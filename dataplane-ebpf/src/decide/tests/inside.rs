//! Inside an environment: who shares a network, forgeries, broken packets, the DNS address and VIPs.

use std::net::IpAddr;

use tests::raw::{self, protocol};

use super::setting::*;
use crate::{abi::Reason, decide::Verdict};

fn dropped(reason: Reason) -> Verdict {
    Verdict::Drop(reason)
}

#[test]
fn a_shared_network_is_enough_and_needs_no_state() {
    let fake = node();
    for (from, to) in [(A, B), (B, A), (B, C), (C, B)] {
        for (source, destination) in
            [(IpAddr::from(from.v4()), IpAddr::from(to.v4())), (from.v6().into(), to.v6().into())]
        {
            for packet in [
                tcp(source, destination, (1, 2)),
                udp(source, destination, (1, 2)),
                echo(source, destination, 3, false),
                unreachable(source, destination, &udp(destination, source, (2, 1))),
                ip(source, destination, protocol::GRE, vec![0; 8]),
            ] {
                let delivered = Verdict::Deliver { ifindex: to.ifindex() };
                assert_eq!(sends(&fake, &from, &from.frame(packet)), delivered);
            }
        }
    }
    assert!(fake.flows.borrow().is_empty() && fake.budgets.borrow().is_empty());
}

#[test]
fn no_shared_network_and_no_common_environment_is_a_wall() {
    let fake = node();
    for (from, to, reason) in
        [(A, C, Reason::NoSharedNetwork), (A, D, Reason::OtherEnvironment), (D, A, Reason::OtherEnvironment)]
    {
        for (source, destination) in
            [(IpAddr::from(from.v4()), IpAddr::from(to.v4())), (from.v6().into(), to.v6().into())]
        {
            for packet in [
                tcp(source, destination, (1, 2)),
                udp(source, destination, (1, 2)),
                echo(source, destination, 3, false),
            ] {
                assert_eq!(sends(&fake, &from, &from.frame(packet)), dropped(reason));
            }
        }
    }
}

#[test]
fn an_address_that_nobody_has_and_one_of_an_unknown_node_are_no_way() {
    let mut fake = node();
    let nobody: IpAddr = "10.208.77.77".parse().unwrap();
    let frame = A.frame(udp(A.v4().into(), nobody, (1, 2)));
    assert_eq!(sends(&fake, &A, &frame), dropped(Reason::UnknownAddress));
    fake.endpoints
        .insert(nobody.into(), crate::abi::Endpoint { networks: 1, identity: B.identity, ..Default::default() });
    assert_eq!(sends(&fake, &A, &frame), dropped(Reason::NoTunnel));
}

#[test]
fn who_one_is_cannot_be_forged() {
    let fake = node();
    for (own, other) in [(IpAddr::from(A.v4()), IpAddr::from(B.v4())), (A.v6().into(), B.v6().into())] {
        let packet = udp(other, own, (1, 2));
        assert_eq!(sends(&fake, &A, &A.frame(packet)), dropped(Reason::SpoofedAddress));
        let mut frame = A.frame(udp(own, other, (1, 2)));
        frame[11] ^= 1;
        assert_eq!(sends(&fake, &A, &frame), dropped(Reason::SpoofedMac));
    }
}

#[test]
fn a_replica_without_ipv6_sends_none() {
    let mut fake = node();
    fake.devices.get_mut(&A.ifindex()).unwrap().address6 = crate::abi::Addr::NONE;
    for source in [A.v6(), std::net::Ipv6Addr::UNSPECIFIED] {
        let frame = A.frame(udp(source.into(), B.v6().into(), (1, 2)));
        assert_eq!(sends(&fake, &A, &frame), dropped(Reason::SpoofedAddress));
    }
}

#[test]
fn a_mapped_destination_is_not_the_address_that_it_looks_like() {
    let fake = node();
    let frame = A.frame(udp(A.v6().into(), B.v4().to_ipv6_mapped().into(), (1, 2)));
    assert_eq!(sends(&fake, &A, &frame), dropped(Reason::EgressDenied));
}

#[test]
fn odd_frames_are_dropped_each_for_its_reason() {
    let fake = node();
    let packet = raw::Ipv4::new(A.v4(), B.v4(), protocol::UDP, raw::udp(A.v4().into(), B.v4().into(), (1, 2), b"x"));
    let with_type = |ether_type: u16| {
        let mut frame = A.frame(packet.bytes());
        frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
        sends(&fake, &A, &frame)
    };
    assert_eq!(with_type(0x0806), dropped(Reason::Arp));
    assert_eq!(with_type(0x8100), dropped(Reason::VlanTag));
    assert_eq!(with_type(0x88a8), dropped(Reason::VlanTag));
    assert_eq!(with_type(0x88cc), dropped(Reason::EtherType));
    assert_eq!(with_type(0x86dd), dropped(Reason::BadLength), "IPv4 that says it is IPv6");
    assert_eq!(sends(&fake, &A, &A.frame(packet.bytes())[..20]), dropped(Reason::BadLength));
    assert_eq!(sends(&fake, &A, &A.frame(packet.bytes())[..36]), dropped(Reason::BadLength));
    let options = raw::Ipv4 { options: vec![1; 4], ..packet };
    assert_eq!(sends(&fake, &A, &A.frame(options.bytes())), dropped(Reason::Ipv4Options));
    let report = raw::Ipv4 { options: vec![148, 4, 0, 0], protocol: protocol::IGMP, ..options };
    assert_eq!(sends(&fake, &A, &A.frame(report.bytes())), dropped(Reason::MulticastReport));
    let tagged = super::super::Frame { ifindex: A.ifindex(), vlan: true, ..Default::default() };
    let frame = A.frame(udp(A.v4().into(), B.v4().into(), (1, 2)));
    let decision = super::super::from_container(&fake, &fake, &tagged, &frame.as_slice(), &mut Default::default());
    assert_eq!(decision.verdict, dropped(Reason::VlanTag));
}

#[test]
fn only_tcp_segments_in_one_may_leave_their_length_unsaid() {
    let fake = node();
    let fate = |frame: &[u8], several: bool| {
        let gso = if several { 1_448 } else { 0 };
        let about = super::super::Frame { ifindex: A.ifindex(), gso, ..Default::default() };
        super::super::from_container(&fake, &fake, &about, &frame, &mut Default::default()).verdict
    };
    let big = |packet| {
        let mut frame = A.frame(packet);
        frame[16..18].fill(0);
        frame.resize(200_000, 0);
        frame
    };
    let (a, b) = (IpAddr::from(A.v4()), IpAddr::from(B.v4()));
    let frame = big(tcp(a, b, (1, 2)));
    assert_eq!(fate(&frame, true), Verdict::Deliver { ifindex: B.ifindex() });
    assert_eq!(fate(&frame, false), dropped(Reason::BadLength), "it stands for one packet");
    assert_eq!(fate(&frame[..14 + 65_535], true), dropped(Reason::BadLength), "its length could be said");
    assert_eq!(fate(&big(udp(a, b, (1, 2))), true), dropped(Reason::BadLength));
}

/// An IPv6 packet from A to B with these headers of eight octets in front of a UDP header.
fn with_headers(headers: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (i, _) in headers.iter().enumerate() {
        payload.extend(raw::extension(*headers.get(i + 1).unwrap_or(&protocol::UDP), &[0; 6]));
    }
    payload.extend(raw::udp(A.v6().into(), B.v6().into(), (1, 2), b"x"));
    let next_header = *headers.first().unwrap_or(&protocol::UDP);
    A.frame(raw::Ipv6 { source: A.v6(), destination: B.v6(), next_header, payload }.bytes())
}

#[test]
fn six_extension_headers_pass_and_a_routing_header_never() {
    let fake = node();
    assert!(matches!(sends(&fake, &A, &with_headers(&[protocol::DESTINATION; 6])), Verdict::Deliver { .. }));
    assert_eq!(sends(&fake, &A, &with_headers(&[protocol::DESTINATION; 7])), dropped(Reason::ExtensionHeaders));
    for routing in [&[protocol::ROUTING][..], &[protocol::HOP_BY_HOP, protocol::ROUTING]] {
        assert_eq!(sends(&fake, &A, &with_headers(routing)), dropped(Reason::RoutingHeader));
    }
    let mut cut = with_headers(&[protocol::DESTINATION]);
    cut[14 + 40 + 1] = 200;
    assert_eq!(sends(&fake, &A, &cut), dropped(Reason::BadLength));
}

#[test]
fn the_link_has_no_neighbours_to_discover() {
    let fake = node();
    for kind in [130_u8, 131, 132, 133, 134, 135, 136, 137, 143] {
        let reason = if (133..=137).contains(&kind) { Reason::NeighborDiscovery } else { Reason::MulticastReport };
        for source in [A.v6(), "fe80::2".parse().unwrap()] {
            let payload = [&[kind, 0, 0, 0], [0; 20].as_slice()].concat();
            let packet = ip(source.into(), B.v6().into(), protocol::ICMPV6, payload);
            assert_eq!(sends(&fake, &A, &A.frame(packet)), dropped(reason), "type {kind}");
        }
    }
}

#[test]
fn the_dns_address_serves_dns_and_echo_and_nothing_else() {
    let mut fake = node();
    // Resolving what is inside needs no way out.
    fake.devices.get_mut(&A.ifindex()).unwrap().flags = 0;
    let (own, dns) = (IpAddr::from(A.v4()), IpAddr::from(DNS));
    assert!(matches!(sends(&fake, &A, &A.frame(udp(own, dns, (9, 53)))), Verdict::Dns(q) if q.at == 42 && q.len == 5));
    assert_eq!(sends(&fake, &A, &A.frame(tcp(own, dns, (9, 53)))), Verdict::Stack);
    assert!(matches!(sends(&fake, &A, &A.frame(echo(own, dns, 1, false))), Verdict::Echo(_)));
    for packet in [
        udp(own, dns, (9, 54)),
        tcp(own, dns, (9, 80)),
        echo(own, dns, 1, true),
        ip(own, dns, protocol::GRE, vec![0; 8]),
    ] {
        assert_eq!(sends(&fake, &A, &A.frame(packet)), dropped(Reason::DnsPort));
    }
}

#[test]
fn a_question_in_pieces_or_with_two_ends_is_no_question() {
    let fake = node();
    let datagram = raw::udp(A.v4().into(), DNS.into(), (9, 53), &[0; 40]);
    let whole = raw::Ipv4::new(A.v4(), DNS, protocol::UDP, datagram.clone());
    let first = raw::Ipv4 { more_fragments: true, ..whole.clone() };
    let later = raw::Ipv4 { fragment_offset: 5, ..whole.clone() };
    let mut longer = whole.clone();
    longer.payload.push(0);
    let mut shorter = whole;
    shorter.payload.truncate(40);
    for packet in [first, later, longer, shorter] {
        assert_eq!(sends(&fake, &A, &A.frame(packet.bytes())), dropped(Reason::BadDns));
    }
    let batch = super::super::Frame { ifindex: A.ifindex(), gso: 100, ..Default::default() };
    let frame = A.frame(raw::Ipv4::new(A.v4(), DNS, protocol::UDP, datagram).bytes());
    let decision = super::super::from_container(&fake, &fake, &batch, &frame.as_slice(), &mut Default::default());
    assert_eq!(decision.verdict, dropped(Reason::BadDns));
}

#[test]
fn a_vip_answers_echoes_of_those_who_may_see_it_and_takes_nothing_else() {
    let fake = node();
    for (source, vip) in [(IpAddr::from(A.v4()), IpAddr::from(VIP4)), (A.v6().into(), VIP6.into())] {
        assert!(matches!(sends(&fake, &A, &A.frame(echo(source, vip, 1, false))), Verdict::Echo(_)));
        for packet in [udp(source, vip, (1, 2)), tcp(source, vip, (1, 2)), echo(source, vip, 1, true)] {
            assert_eq!(sends(&fake, &A, &A.frame(packet)), dropped(Reason::UntranslatedVip));
        }
    }
    for (other, why) in [(C, "shares no network"), (D, "is of another environment")] {
        let packet = echo(other.v4().into(), VIP4.into(), 1, false);
        assert_eq!(sends(&fake, &other, &other.frame(packet)), dropped(Reason::UnknownVip), "{why}");
    }
}

#[test]
fn without_a_device_a_configuration_or_a_settled_entry_nothing_passes() {
    let mut fake = node();
    let frame = A.frame(udp(A.v4().into(), B.v4().into(), (1, 2)));
    let stranger = Replica { host: 99, ..A };
    assert_eq!(sends(&fake, &stranger, &frame), dropped(Reason::UnknownDevice));
    fake.torn = true;
    assert_eq!(sends(&fake, &A, &frame), dropped(Reason::TornRead));
    fake.torn = false;
    fake.node = None;
    assert_eq!(sends(&fake, &A, &frame), dropped(Reason::NoConfig));
}
