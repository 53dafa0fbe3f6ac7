//! Out of the cluster and back.

use std::net::{IpAddr, Ipv6Addr};

use tests::raw::{self, protocol};

use super::setting::*;
use crate::{
    abi::{Addr, Reason, flags},
    decide::{Verdict, lifetime},
    tables::fake::Fake,
};

fn leave(fake: &Fake) -> Verdict {
    sends(fake, &A, &A.frame(tcp(A.v4().into(), OUTSIDE4.into(), (1000, 443))))
}

fn come_back(fake: &Fake) -> Verdict {
    receives(fake, &A, &A.incoming(tcp(OUTSIDE4.into(), A.v4().into(), (443, 1000))), UPLINK, 0)
}

#[test]
fn each_gate_of_the_way_out_has_to_be_open() {
    let gates: [(Reason, Change); 7] = [
        (Reason::EgressOff, |fake| fake.devices.get_mut(&A.ifindex()).unwrap().flags = 0),
        (Reason::EgressDenied, |fake| fake.egress[0].1.action = crate::abi::action::DENY),
        (Reason::EgressDenied, |fake| fake.egress.clear()),
        (Reason::EgressDenied, |fake| fake.egress[0].1.action = crate::abi::action::LISTED),
        (Reason::NotListed, |fake| fake.devices.get_mut(&A.ifindex()).unwrap().flags |= flags::of_list(1)),
        (Reason::NoRoute, |fake| fake.routes.clear()),
        (Reason::NotUplink, |fake| *fake.routes.get_mut(&OUTSIDE4.into()).unwrap() = 51),
    ];
    assert_eq!(leave(&node()), Verdict::Stack);
    for (reason, close) in gates {
        let mut fake = node();
        close(&mut fake);
        assert_eq!(leave(&fake), Verdict::Drop(reason));
        assert!(fake.flows.borrow().is_empty() && fake.budgets.borrow().is_empty(), "nothing is spent on a drop");
    }
}

#[test]
fn the_longest_prefix_says_whether_traffic_may_leave() {
    let mut fake = node();
    let private: IpAddr = "10.0.0.1".parse().unwrap();
    fake.routes.insert(private.into(), UPLINK);
    let frame = A.frame(tcp(A.v4().into(), private, (1000, 443)));
    assert_eq!(sends(&fake, &A, &frame), Verdict::Drop(Reason::EgressDenied));
}

#[test]
fn only_answers_come_back() {
    let fake = node();
    assert_eq!(come_back(&fake), Verdict::Drop(Reason::NotAReply));
    assert_eq!(leave(&fake), Verdict::Stack);
    assert_eq!(come_back(&fake), Verdict::Pass);
    let others = [
        ("another port", A.incoming(tcp(OUTSIDE4.into(), A.v4().into(), (443, 1001)))),
        ("another protocol", A.incoming(udp(OUTSIDE4.into(), A.v4().into(), (443, 1000)))),
        ("another sender", A.incoming(tcp("11.0.0.8".parse().unwrap(), A.v4().into(), (443, 1000)))),
    ];
    for (why, frame) in others {
        assert_eq!(receives(&fake, &A, &frame, UPLINK, 0), Verdict::Drop(Reason::NotAReply), "{why}");
    }
}

#[test]
fn an_answer_from_outside_holds_no_longer_than_what_it_answers() {
    let spoils: [(&str, Change); 7] = [
        ("the policy changed", |fake| fake.node.as_mut().unwrap().epoch = 2),
        ("the prefix is denied now", |fake| fake.egress[0].1.action = crate::abi::action::DENY),
        ("another rule is there", |fake| fake.egress[0].1.rule = 8),
        ("it has a list now", |fake| fake.devices.get_mut(&A.ifindex()).unwrap().flags |= flags::of_list(1)),
        ("the way out is shut", |fake| fake.devices.get_mut(&A.ifindex()).unwrap().flags = 0),
        ("the address has another owner", |fake| fake.devices.get_mut(&A.ifindex()).unwrap().identity.env = 9),
        ("too long ago", |fake| fake.now.set(fake.now.get() + lifetime(protocol::TCP) + 1)),
    ];
    for (why, spoil) in spoils {
        let mut fake = node();
        assert_eq!(leave(&fake), Verdict::Stack);
        assert_eq!(come_back(&fake), Verdict::Pass);
        spoil(&mut fake);
        assert_eq!(come_back(&fake), Verdict::Drop(Reason::NotAReply), "{why}");
    }
}

#[test]
fn a_process_of_the_host_is_known_by_its_mark_and_by_nothing_else() {
    let fake = node();
    let (dns, a): (IpAddr, IpAddr) = (DNS.into(), A.v4().into());
    let answer = A.incoming(udp(dns, a, (53, 1000)));
    assert_eq!(receives(&fake, &A, &answer, 0, 0x0600_0000), Verdict::Pass);
    assert_eq!(receives(&fake, &A, &answer, 0, 0x0600_0001), Verdict::Pass, "bits that are not ours do not count");
    assert_eq!(receives(&fake, &A, &answer, 0, 0), Verdict::Drop(Reason::LocalProcess));
    assert_eq!(receives(&fake, &A, &answer, 0, 0x0500_0000), Verdict::Drop(Reason::LocalProcess));
    assert_eq!(receives(&fake, &A, &answer, 77, 0x0600_0000), Verdict::Drop(Reason::NotAReply), "not made here");
    let misdirected = A.incoming(udp(dns, B.v4().into(), (53, 1000)));
    assert_eq!(receives(&fake, &A, &misdirected, 0, 0x0600_0000), Verdict::Drop(Reason::UnknownAddress));
}

#[test]
fn fragments_come_back_after_their_first_one() {
    let fake = node();
    assert_eq!(sends(&fake, &A, &A.frame(udp(A.v4().into(), OUTSIDE4.into(), (1000, 53)))), Verdict::Stack);
    let datagram = raw::udp(OUTSIDE4.into(), A.v4().into(), (53, 1000), &[0; 24]);
    let packet = raw::Ipv4::new(OUTSIDE4, A.v4(), protocol::UDP, Vec::new());
    let first = raw::Ipv4 { more_fragments: true, payload: datagram[..16].to_vec(), ..packet.clone() };
    let later = raw::Ipv4 { fragment_offset: 2, payload: datagram[16..].to_vec(), ..packet };
    let later = A.incoming(later.bytes());
    assert_eq!(receives(&fake, &A, &later, UPLINK, 0), Verdict::Drop(Reason::OrphanFragment));
    assert_eq!(receives(&fake, &A, &A.incoming(first.bytes()), UPLINK, 0), Verdict::Pass);
    assert_eq!(receives(&fake, &A, &later, UPLINK, 0), Verdict::Pass);
}

#[test]
fn the_host_s_own_word_about_the_link_is_no_stray_packet() {
    let fake = node();
    // As the host's stack reports the groups it listens to when a veth comes up: `:: > ff02::16`, with a router alert.
    let (nobody, everybody) = (Ipv6Addr::UNSPECIFIED, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16));
    let report = [&[143, 0, 0, 0, 0, 0, 0, 1, 4], [0; 19].as_slice()].concat();
    let alert = raw::extension(protocol::ICMPV6, &[5, 2, 0, 0, 1, 0]);
    let groups = ip(nobody.into(), everybody.into(), protocol::HOP_BY_HOP, [alert, report].concat());
    let advertisement = ip("fe80::1".parse().unwrap(), "ff02::1".parse().unwrap(), protocol::ICMPV6, vec![134; 16]);
    for (what, packet, reason) in [
        ("a listener report", groups, Reason::MulticastReport),
        ("a router advertisement", advertisement, Reason::NeighborDiscovery),
    ] {
        for (ingress_ifindex, mark) in [(0, 0), (0, 0x0600_0000), (UPLINK, 0)] {
            let verdict = receives(&fake, &A, &A.incoming(packet.clone()), ingress_ifindex, mark);
            assert_eq!(verdict, Verdict::Drop(reason), "{what}");
        }
    }
}

#[test]
fn an_echo_reply_comes_back_and_a_request_never() {
    let fake = node();
    for (a, outside) in [(IpAddr::from(A.v4()), IpAddr::from(OUTSIDE4)), (A.v6().into(), OUTSIDE6.into())] {
        assert_eq!(sends(&fake, &A, &A.frame(echo(a, outside, 7, false))), Verdict::Stack);
        assert_eq!(receives(&fake, &A, &A.incoming(echo(outside, a, 7, true)), UPLINK, 0), Verdict::Pass);
        let request = A.incoming(echo(outside, a, 7, false));
        assert_eq!(receives(&fake, &A, &request, UPLINK, 0), Verdict::Drop(Reason::NotAReply));
        let unasked = A.frame(echo(a, outside, 8, true));
        assert_eq!(sends(&fake, &A, &unasked), Verdict::Drop(Reason::UnrelatedIcmp));
    }
}

#[test]
fn a_replica_without_ipv6_gets_none() {
    let mut fake = node();
    fake.devices.get_mut(&A.ifindex()).unwrap().address6 = Addr::NONE;
    let frame = A.incoming(udp(OUTSIDE6.into(), Ipv6Addr::UNSPECIFIED.into(), (1, 2)));
    assert_eq!(receives(&fake, &A, &frame, 0, 0x0600_0000), Verdict::Drop(Reason::UnknownAddress));
}
