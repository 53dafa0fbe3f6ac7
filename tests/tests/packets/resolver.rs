//! Questions of names, and what else comes to the DNS address.

use super::*;
use crate::world::OLD4;

pub(super) fn resolver(cases: &mut Cases) {
    let (a, dns) = (IpAddr::from(A.v4()), IpAddr::from(DNS));
    let reverse6 = "1.0.0.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.7.5.6.b.6.3.5.d.f.ip6.arpa";
    for edns in [false, true] {
        for (what, name, kind) in [
            ("A", "api", 1),
            ("A in mixed case", "aPi.INTERNAL", 1),
            ("AAAA", "api.production.shop.internal", 28),
            ("no AAAA", "old", 28),
            ("SRV", "_http._tcp.api.production.shop.internal", 33),
            ("SRV of a plain name", "api", 33),
            ("no SRV", "_tcp.api.internal", 33),
            ("with an underscore", "my_API", 1),
            ("no MX", "api", 15),
            ("no such name", "nobody.internal", 1),
            ("no such label", "nobody", 1),
            ("a name of another network", "hidden", 1),
            ("PTR", "1.1.224.10.in-addr.arpa", 12),
            ("PTR of IPv6", reverse6, 12),
            ("no PTR", "7.7.208.10.in-addr.arpa", 12),
        ] {
            cases.asked(what, &A, &question(name, kind, edns), Expected::Answer);
        }
        cases.asked("a name out there", &A, &question("example.com", 1, edns), STACK);
        cases.asked("a name out there without a way out", &B, &question("example.com", 1, edns), Expected::Answer);
    }
    cases.asked("no question", &A, b"not DNS", drop(Reason::BadDns));
    cases.asked("octets after it", &A, &[question("api", 1, false), vec![0]].concat(), drop(Reason::BadDns));
    cases.asked("a batch", &A, &question("api", 1, false), drop(Reason::BadDns));
    cases.last(|about| about.gso = 100);
    cases.sent("DNS over TCP", &A, tcp(a, dns, (1000, 53)), STACK);
    cases.sent("another port", &A, tcp(a, dns, (1000, 54)), drop(Reason::DnsPort));
    cases.sent("ping to the DNS address", &A, echo(a, dns), ECHO);
    cases.sent("ping to a VIP without IPv6", &A, echo(a, OLD4.into()), ECHO);
}
