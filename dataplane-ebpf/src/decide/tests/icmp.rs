//! ICMP errors across boundaries: what counts is the packet that they quote.

use std::net::IpAddr;

use super::setting::*;
use crate::{abi::Reason, decide::Verdict};

#[test]
fn an_error_goes_back_to_who_asked_and_to_nobody_else() {
    let mut fake = node();
    allow(&mut fake, &A, &D);
    let pairs: [(IpAddr, IpAddr, IpAddr); 2] =
        [(A.v4().into(), D.v4().into(), B.v4().into()), (A.v6().into(), D.v6().into(), B.v6().into())];
    for (a, d, b) in pairs {
        let question = udp(a, d, (1000, 5432));
        let error = D.frame(unreachable(d, a, &question));
        assert_eq!(sends(&fake, &D, &error), Verdict::Drop(Reason::UnrelatedIcmp), "nothing was asked yet");
        assert!(matches!(sends(&fake, &A, &A.frame(question.clone())), Verdict::Deliver { .. }));
        assert!(matches!(sends(&fake, &D, &error), Verdict::Deliver { .. }));
        // The asker may complain about the answer as well.
        let complaint = A.frame(unreachable(a, d, &udp(d, a, (5432, 1000))));
        assert!(matches!(sends(&fake, &A, &complaint), Verdict::Deliver { .. }));
        for (why, error) in [
            ("to another than it quotes", unreachable(d, b, &question)),
            ("about another flow", unreachable(d, a, &udp(a, d, (1001, 5432)))),
            ("about what it did not get", unreachable(d, a, &udp(a, b, (1000, 5432)))),
            ("about nothing", unreachable(d, a, &[])),
            ("about an error", unreachable(d, a, &unreachable(a, d, &question))),
        ] {
            assert_eq!(sends(&fake, &D, &D.frame(error)), Verdict::Drop(Reason::UnrelatedIcmp), "{why}");
        }
    }
}

#[test]
fn a_redirect_and_a_timestamp_cross_nothing() {
    let mut fake = node();
    allow(&mut fake, &A, &D);
    let question = udp(A.v4().into(), D.v4().into(), (1000, 5432));
    assert!(matches!(sends(&fake, &A, &A.frame(question.clone())), Verdict::Deliver { .. }));
    for kind in [5_u8, 13] {
        let mut message = D.frame(unreachable(D.v4().into(), A.v4().into(), &question));
        message[34] = kind;
        assert_eq!(sends(&fake, &D, &message), Verdict::Drop(Reason::OtherEnvironment), "type {kind}");
    }
}

#[test]
fn a_router_out_there_may_report_on_what_left() {
    let fake = node();
    let router: IpAddr = "11.9.9.9".parse().unwrap();
    let question = udp(A.v4().into(), OUTSIDE4.into(), (1000, 53));
    let error = A.incoming(unreachable(router, A.v4().into(), &question));
    assert_eq!(receives(&fake, &A, &error, UPLINK, 0), Verdict::Drop(Reason::UnrelatedIcmp));
    assert_eq!(sends(&fake, &A, &A.frame(question.clone())), Verdict::Stack);
    assert_eq!(receives(&fake, &A, &error, UPLINK, 0), Verdict::Pass);
    assert_eq!(receives(&fake, &A, &error, 0, 0), Verdict::Pass, "the host is a router, too");
    let misdirected = D.incoming(unreachable(router, D.v4().into(), &question));
    assert_eq!(receives(&fake, &D, &misdirected, UPLINK, 0), Verdict::Drop(Reason::UnrelatedIcmp));
}

#[test]
fn a_dead_forwarder_is_noticed_at_once() {
    let fake = node();
    let question = udp(A.v4().into(), DNS.into(), (1000, 53));
    let error = A.incoming(unreachable(DNS.into(), A.v4().into(), &question));
    assert_eq!(receives(&fake, &A, &error, 0, 0), Verdict::Pass);
    assert_eq!(receives(&fake, &A, &error, UPLINK, 0), Verdict::Drop(Reason::UnrelatedIcmp), "only the host's own");
}
