//! Across a boundary inside the cluster: grants, what is remembered of them, and for how long.

use std::net::IpAddr;

use tests::raw::{self, protocol};

use super::setting::*;
use crate::{
    abi::{Budget, Grant, GrantKey, Reason, action},
    decide::{Verdict, lifetime},
    tables::fake::Fake,
};

fn passes(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Deliver { .. })
}

fn ask(fake: &Fake) -> Verdict {
    sends(fake, &A, &A.frame(udp(A.v4().into(), D.v4().into(), (1000, 5432))))
}

fn answer(fake: &Fake) -> Verdict {
    sends(fake, &D, &D.frame(udp(D.v4().into(), A.v4().into(), (5432, 1000))))
}

#[test]
fn a_grant_lets_cross_and_its_answers_come_back() {
    let mut fake = node();
    assert_eq!(answer(&fake), Verdict::Drop(Reason::OtherEnvironment));
    allow(&mut fake, &A, &D);
    assert_eq!(answer(&fake), Verdict::Drop(Reason::OtherEnvironment), "nothing was asked yet");
    assert!(passes(ask(&fake)));
    assert!(passes(answer(&fake)));
    let other_port = udp(D.v4().into(), A.v4().into(), (5432, 1001));
    assert_eq!(sends(&fake, &D, &D.frame(other_port)), Verdict::Drop(Reason::OtherEnvironment));
}

#[test]
fn an_answer_holds_no_longer_than_what_it_answers() {
    let spoils: [(&str, Change); 6] = [
        ("the policy changed", |fake| fake.node.as_mut().unwrap().epoch = 2),
        ("the rule is gone", |fake| fake.grants.clear()),
        ("another rule is there", |fake| fake.grants.values_mut().for_each(|grant| grant.rule = 8)),
        ("too long ago", |fake| fake.now.set(fake.now.get() + lifetime(protocol::UDP) + 1)),
        ("the asker's address has another owner", |fake| {
            fake.endpoints.get_mut(&A.v4().into()).unwrap().identity.service = 99;
        }),
        ("the answerer is another service", |fake| {
            fake.devices.get_mut(&D.ifindex()).unwrap().identity.service = 99;
        }),
    ];
    for (why, spoil) in spoils {
        let mut fake = node();
        allow(&mut fake, &A, &D);
        assert!(passes(ask(&fake)) && passes(answer(&fake)));
        spoil(&mut fake);
        assert_eq!(answer(&fake), Verdict::Drop(Reason::OtherEnvironment), "{why}");
    }
}

#[test]
fn a_deny_has_its_own_reason_and_does_not_silence_answers() {
    let mut fake = node();
    allow(&mut fake, &A, &D);
    let back = GrantKey { source: D.identity, destination: A.identity, ..GrantKey::default() };
    fake.grants.insert(back, Grant { action: action::DENY, rule: 9, seal: 0 });
    assert_eq!(answer(&fake), Verdict::Drop(Reason::Denied));
    assert!(passes(ask(&fake)));
    assert!(passes(answer(&fake)));
}

#[test]
fn an_echo_reply_answers_and_never_asks() {
    let mut fake = node();
    allow(&mut fake, &A, &D);
    allow(&mut fake, &D, &A);
    let reply = D.frame(echo(D.v4().into(), A.v4().into(), 7, true));
    assert_eq!(sends(&fake, &D, &reply), Verdict::Drop(Reason::OtherEnvironment));
    assert!(passes(sends(&fake, &A, &A.frame(echo(A.v4().into(), D.v4().into(), 7, false)))));
    assert!(passes(sends(&fake, &D, &reply)));
}

#[test]
fn a_flow_that_goes_on_stays_and_costs_no_token() {
    let mut fake = node();
    allow(&mut fake, &A, &D);
    assert!(passes(ask(&fake)));
    assert_eq!(fake.tokens(A.ifindex()), Some(Budget::BURST - 1));
    for _ in 0..5 {
        fake.now.set(fake.now.get() + lifetime(protocol::UDP) - 1);
        assert!(passes(answer(&fake)), "each answer renews it");
    }
    assert!(passes(ask(&fake)));
    assert_eq!(fake.tokens(A.ifindex()), Some(Budget::BURST - 1));
}

#[test]
fn too_many_new_flows_at_once_are_too_many() {
    let mut fake = node();
    allow(&mut fake, &A, &D);
    let flow = |port| A.frame(udp(A.v4().into(), D.v4().into(), (port, 53)));
    for port in 0..Budget::BURST as u16 {
        assert!(passes(sends(&fake, &A, &flow(port))));
    }
    assert_eq!(sends(&fake, &A, &flow(60_000)), Verdict::Drop(Reason::FlowBudget));
    assert!(passes(sends(&fake, &A, &flow(0))), "a flow that is there goes on");
    fake.now.set(fake.now.get() + Budget::REFILL);
    assert!(passes(sends(&fake, &A, &flow(60_000))));
    assert_eq!(sends(&fake, &A, &flow(60_001)), Verdict::Drop(Reason::FlowBudget));
}

/// The pieces of a datagram from A to D, first and later one.
fn pieces(id: u16) -> [Vec<u8>; 2] {
    let datagram = raw::udp(A.v4().into(), D.v4().into(), (1000, 5432), &[0; 24]);
    let packet = raw::Ipv4::new(A.v4(), D.v4(), protocol::UDP, Vec::new());
    let first = raw::Ipv4 { id, more_fragments: true, payload: datagram[..16].to_vec(), ..packet.clone() };
    let later = raw::Ipv4 { id, fragment_offset: 2, payload: datagram[16..].to_vec(), ..packet };
    [A.frame(first.bytes()), A.frame(later.bytes())]
}

#[test]
fn a_later_fragment_goes_where_its_first_one_went() {
    let mut fake = node();
    let [first, later] = pieces(1);
    assert_eq!(sends(&fake, &A, &first), Verdict::Drop(Reason::OtherEnvironment));
    assert_eq!(sends(&fake, &A, &later), Verdict::Drop(Reason::OrphanFragment));
    allow(&mut fake, &A, &D);
    assert_eq!(sends(&fake, &A, &later), Verdict::Drop(Reason::OrphanFragment), "a grant alone is not enough");
    assert!(passes(sends(&fake, &A, &first)));
    assert!(passes(sends(&fake, &A, &later)));
    assert_eq!(sends(&fake, &A, &pieces(2)[1]), Verdict::Drop(Reason::OrphanFragment), "another datagram");
    fake.now.set(fake.now.get() + lifetime(44) + 1);
    assert_eq!(sends(&fake, &A, &later), Verdict::Drop(Reason::OrphanFragment), "too late");
}

#[test]
fn a_later_fragment_inside_needs_nothing() {
    let fake = node();
    let source = raw::Ipv4::new(A.v4(), B.v4(), protocol::UDP, vec![0; 16]);
    let later = raw::Ipv4 { fragment_offset: 2, ..source };
    assert!(passes(sends(&fake, &A, &A.frame(later.bytes()))));
    let payload = [raw::fragment_header(protocol::UDP, 2, false, 7), vec![0; 16]].concat();
    let packet = ip(A.v6().into(), B.v6().into(), protocol::FRAGMENT, payload);
    assert!(passes(sends(&fake, &A, &A.frame(packet))));
}

#[test]
fn a_first_fragment_without_its_ports_is_broken() {
    let mut fake = node();
    allow(&mut fake, &A, &D);
    let packet = raw::Ipv4::new(A.v4(), D.v4(), protocol::TCP, vec![0; 8]);
    let first = raw::Ipv4 { more_fragments: true, ..packet };
    assert_eq!(sends(&fake, &A, &A.frame(first.bytes())), Verdict::Drop(Reason::BadLength));
}

#[test]
fn both_families_cross_alike() {
    let mut fake = node();
    allow(&mut fake, &A, &D);
    let (a, d): (IpAddr, IpAddr) = (A.v6().into(), D.v6().into());
    assert_eq!(sends(&fake, &D, &D.frame(tcp(d, a, (80, 9)))), Verdict::Drop(Reason::OtherEnvironment));
    assert!(passes(sends(&fake, &A, &A.frame(tcp(a, d, (9, 80))))));
    assert!(passes(sends(&fake, &D, &D.frame(tcp(d, a, (80, 9))))));
}
