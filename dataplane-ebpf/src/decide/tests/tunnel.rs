//! To replicas of another node, and from them.

use std::net::IpAddr;

use tests::raw::{self, protocol};

use super::setting::*;
use crate::{
    abi::{Addr, Budget, Device, Identity, Reason},
    decide::{self, Decision, Frame, TooBig, Verdict, Workspace},
    packet::Family,
    tables::fake::Fake,
};

/// Both addresses of each.
fn pairs(from: &Replica, to: &Replica) -> [(IpAddr, IpAddr); 2] {
    [(from.v4().into(), to.v4().into()), (from.v6().into(), to.v6().into())]
}

/// A UDP packet of that many octets, IP header included.
fn sized(source: IpAddr, destination: IpAddr, octets: usize) -> Vec<u8> {
    let headers = if source.is_ipv4() { 28 } else { 48 };
    ip(source, destination, protocol::UDP, raw::udp(source, destination, (1, 2), &vec![7; octets - headers]))
}

/// What becomes of a frame that A sends, which stands for packets of `gso` octets of payload.
fn batch(fake: &Fake, frame: &[u8], gso: u16) -> Verdict {
    let about = Frame { ifindex: A.ifindex(), gso, ..Frame::default() };
    decide::from_container(fake, fake, &about, &frame, &mut Workspace::default()).verdict
}

#[test]
fn a_shared_network_spans_nodes_and_needs_no_state() {
    let fake = node();
    for (a, e) in pairs(&A, &E) {
        for (question, answer) in [
            (tcp(a, e, (1, 2)), tcp(e, a, (2, 1))),
            (udp(a, e, (1, 2)), udp(e, a, (2, 1))),
            (echo(a, e, 3, false), echo(e, a, 3, true)),
            (unreachable(a, e, &udp(e, a, (2, 1))), unreachable(e, a, &udp(a, e, (1, 2)))),
        ] {
            assert_eq!(sends(&fake, &A, &A.frame(question)), Verdict::Tunnel { ifindex: TUNNEL });
            assert_eq!(arrives(&fake, &headed(answer)), Verdict::Deliver { ifindex: A.ifindex() });
        }
    }
    assert!(fake.flows.borrow().is_empty() && fake.budgets.borrow().is_empty());
}

#[test]
fn a_tunnel_joins_no_environments_and_no_networks() {
    let fake = node();
    for (here, there, reason) in [(A, F, Reason::OtherEnvironment), (C, E, Reason::NoSharedNetwork)] {
        for (own, other) in pairs(&here, &there) {
            assert_eq!(sends(&fake, &here, &here.frame(udp(own, other, (1, 2)))), Verdict::Drop(reason));
            assert_eq!(arrives(&fake, &headed(udp(other, own, (1, 2)))), Verdict::Drop(reason));
        }
    }
}

#[test]
fn without_a_tunnel_nothing_goes_another_way() {
    let mut fake = node();
    let frame = A.frame(udp(A.v4().into(), E.v4().into(), (1, 2)));
    fake.nodes.get_mut(&FAR).unwrap().ifindex = 0;
    assert_eq!(sends(&fake, &A, &frame), Verdict::Drop(Reason::NoTunnel));
    fake.nodes.clear();
    assert_eq!(sends(&fake, &A, &frame), Verdict::Drop(Reason::NoTunnel));
    fake.torn = true;
    assert_eq!(arrives(&fake, &headed(udp(E.v4().into(), A.v4().into(), (1, 2)))), Verdict::Drop(Reason::TornRead));
    fake.torn = false;
    fake.node = None;
    assert_eq!(arrives(&fake, &headed(udp(E.v4().into(), A.v4().into(), (1, 2)))), Verdict::Drop(Reason::NoConfig));
}

#[test]
fn only_replicas_of_other_nodes_send_through_a_tunnel_and_only_those_of_this_one_get_it() {
    let fake = node();
    let nobody: [IpAddr; 2] = ["10.208.77.77".parse().unwrap(), "fd53:6b65:7000::77".parse().unwrap()];
    for (v6, unknown) in nobody.into_iter().enumerate() {
        let own = |replica: &Replica| pairs(replica, replica)[v6].0;
        for (what, source, destination, reason) in [
            ("of nobody", unknown, own(&A), Reason::UnknownSender),
            ("of one that is here", own(&B), own(&A), Reason::SpoofedAddress),
            ("of the receiver itself", own(&A), own(&A), Reason::SpoofedAddress),
            ("to nobody", own(&E), unknown, Reason::UnknownAddress),
            ("to one that is elsewhere", own(&E), own(&E), Reason::NotHere),
        ] {
            assert_eq!(arrives(&fake, &headed(udp(source, destination, (1, 2)))), Verdict::Drop(reason), "{what}");
        }
    }
    for to in [DNS.into(), VIP4.into(), IpAddr::from(OUTSIDE4), "224.0.0.1".parse().unwrap()] {
        let frame = headed(udp(E.v4().into(), to, (1, 53)));
        assert_eq!(arrives(&fake, &frame), Verdict::Drop(Reason::UnknownAddress), "{to}");
    }
}

#[test]
fn a_mapped_address_in_a_tunnel_is_nobodys() {
    let fake = node();
    let mapped = |replica: &Replica| IpAddr::from(replica.v4().to_ipv6_mapped());
    let frame = headed(udp(mapped(&E), A.v6().into(), (1, 2)));
    assert_eq!(arrives(&fake, &frame), Verdict::Drop(Reason::UnknownSender));
    let frame = headed(udp(E.v6().into(), mapped(&A), (1, 2)));
    assert_eq!(arrives(&fake, &frame), Verdict::Drop(Reason::UnknownAddress));
}

#[test]
fn broken_packets_come_through_no_tunnel() {
    let fake = node();
    let payload = raw::udp(E.v4().into(), A.v4().into(), (1, 2), b"x");
    let packet = raw::Ipv4::new(E.v4(), A.v4(), protocol::UDP, payload);
    let options = raw::Ipv4 { options: vec![1; 4], ..packet.clone() };
    assert_eq!(arrives(&fake, &headed(options.bytes())), Verdict::Drop(Reason::Ipv4Options));
    assert_eq!(arrives(&fake, &headed(packet.bytes())[..36]), Verdict::Drop(Reason::BadLength));
    let solicitation = [&[135, 0, 0, 0], [0; 20].as_slice()].concat();
    let solicitation = ip(E.v6().into(), A.v6().into(), protocol::ICMPV6, solicitation);
    assert_eq!(arrives(&fake, &headed(solicitation)), Verdict::Drop(Reason::NeighborDiscovery));
}

#[test]
fn drops_count_for_who_sent_them_as_far_as_that_is_known() {
    let mut fake = node();
    let decide = |fake: &Fake, packet: Vec<u8>| {
        let (about, mut work) = (Frame { ifindex: TUNNEL, ..Frame::default() }, Workspace::default());
        let decision = decide::from_wireguard(fake, fake, &about, &headed(packet).as_slice(), &mut work);
        (decision, work.receiver())
    };
    let to_c = udp(E.v4().into(), C.v4().into(), (1, 2));
    let refused = Decision { who: E.identity, verdict: Verdict::Drop(Reason::NoSharedNetwork) };
    assert_eq!(decide(&fake, to_c).0, refused);
    let of_b = udp(B.v4().into(), A.v4().into(), (1, 2));
    assert_eq!(decide(&fake, of_b).0.who, Identity::WORLD, "B did not send it");
    let to_a = udp(E.v4().into(), A.v4().into(), (1, 2));
    let (decision, receiver) = decide(&fake, to_a.clone());
    assert_eq!(decision.who, E.identity);
    assert_eq!(receiver, (A.identity, [A.mac(), A.host_mac()]));
    fake.devices.remove(&A.ifindex());
    let unknown = Decision { who: E.identity, verdict: Verdict::Drop(Reason::UnknownDevice) };
    assert_eq!(decide(&fake, to_a).0, unknown, "an endpoint whose device is gone");
}

#[test]
fn a_grant_is_remembered_on_both_nodes() {
    // The same rules on both; where A is, F is far, and the other way round.
    let (mut near, mut far) = (node(), node());
    for fake in [&mut near, &mut far] {
        allow(fake, &A, &F);
    }
    for (a, f) in pairs(&A, &F) {
        for (address, replica) in [(a, &A), (f, &F)] {
            let here = replica == &F;
            let endpoint = far.endpoints.get_mut(&Addr::from(address)).unwrap();
            (endpoint.ifindex, endpoint.node) = if here { (F.ifindex(), 0) } else { (0, FAR) };
        }
    }
    let own = Device {
        identity: F.identity,
        networks: F.networks,
        mac: F.mac(),
        host_mac: F.host_mac(),
        ..Device::default()
    };
    let addressed = Device { address4: Addr::from(F.v4()).v4_word(), address6: F.v6().into(), ..own };
    far.devices.insert(F.ifindex(), addressed);
    for (a, f) in pairs(&A, &F) {
        let (question, answer) = (udp(a, f, (1000, 53)), udp(f, a, (53, 1000)));
        assert_eq!(sends(&far, &F, &F.frame(answer.clone())), Verdict::Drop(Reason::OtherEnvironment), "unasked");
        assert_eq!(arrives(&near, &headed(answer.clone())), Verdict::Drop(Reason::OtherEnvironment), "unasked");
        assert_eq!(sends(&near, &A, &A.frame(question.clone())), Verdict::Tunnel { ifindex: TUNNEL });
        assert_eq!(arrives(&far, &headed(question.clone())), Verdict::Deliver { ifindex: F.ifindex() });
        assert_eq!(sends(&far, &F, &F.frame(answer.clone())), Verdict::Tunnel { ifindex: TUNNEL });
        assert_eq!(arrives(&near, &headed(answer)), Verdict::Deliver { ifindex: A.ifindex() });
        let error = unreachable(f, a, &question);
        assert_eq!(arrives(&near, &headed(error)), Verdict::Deliver { ifindex: A.ifindex() });
        let unrelated = unreachable(f, a, &udp(a, f, (1001, 53)));
        assert_eq!(arrives(&near, &headed(unrelated)), Verdict::Drop(Reason::UnrelatedIcmp));
    }
    assert_eq!(near.tokens(A.ifindex()), Some(Budget::BURST - 2), "a token of the sender's for each family");
    assert!(far.budgets.borrow().is_empty(), "and none where it arrives");
}

#[test]
fn what_does_not_fit_is_told_to_its_sender() {
    let fake = node();
    for ((a, e), family) in pairs(&A, &E).into_iter().zip([Family::V4, Family::V6]) {
        let fits = TUNNEL_MTU as usize;
        assert_eq!(sends(&fake, &A, &A.frame(sized(a, e, fits))), Verdict::Tunnel { ifindex: TUNNEL });
        let told = Verdict::TooBig(TooBig { family, mtu: TUNNEL_MTU });
        assert_eq!(sends(&fake, &A, &A.frame(sized(a, e, fits + 1))), told);
        let mut error = unreachable(a, e, &udp(e, a, (1, 2)));
        error.resize(fits + 1, 0);
        let length = (error.len() - if family == Family::V4 { 0 } else { 40 }) as u16;
        let at = if family == Family::V4 { 2 } else { 4 };
        error[at..at + 2].copy_from_slice(&length.to_be_bytes());
        assert_eq!(sends(&fake, &A, &A.frame(error)), Verdict::Drop(Reason::TooBig), "no error about an error");
    }
    let later = raw::Ipv4::new(A.v4(), E.v4(), protocol::UDP, vec![0; 1_480]);
    let later = raw::Ipv4 { fragment_offset: 2, ..later };
    assert_eq!(sends(&fake, &A, &A.frame(later.bytes())), Verdict::Drop(Reason::TooBig), "nor about a later fragment");
}

#[test]
fn of_several_packets_in_one_each_has_to_fit() {
    let fake = node();
    let tunnel = Verdict::Tunnel { ifindex: TUNNEL };
    for ((a, e), headers) in pairs(&A, &E).into_iter().zip([20_u16, 40]) {
        let mut segments = raw::tcp_syn(a, e, (1, 2), 1);
        segments.resize(20_000, 0);
        let tcp = A.frame(ip(a, e, protocol::TCP, segments));
        let mtu = TUNNEL_MTU as u16;
        let payload = mtu - headers - 20;
        assert_eq!(batch(&fake, &tcp, payload), tunnel);
        assert!(matches!(batch(&fake, &tcp, payload + 1), Verdict::TooBig(_)));
        let mut options = tcp.clone();
        options[14 + headers as usize + 12] = 0x80;
        assert!(matches!(batch(&fake, &options, payload), Verdict::TooBig(_)), "twelve octets of options");
        assert_eq!(batch(&fake, &options, payload - 12), tunnel);
        let udp = A.frame(sized(a, e, 20_000));
        assert_eq!(batch(&fake, &udp, mtu - headers - 8), tunnel);
        assert!(matches!(batch(&fake, &udp, mtu - headers - 7), Verdict::TooBig(_)));
        // One that says so and is not: what counts is its length.
        assert_eq!(batch(&fake, &A.frame(sized(a, e, 100)), 9_000), tunnel);
    }
}
