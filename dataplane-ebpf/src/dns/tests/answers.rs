use proptest::prelude::*;

use super::reader::*;
use crate::dns::TTL;

/// QR, AA, RD, RA.
const FLAGS: u16 = 0x8580;

#[test]
fn a_service_has_an_address_of_each_family() {
    for name in ["api", "api.internal", "api.production.shop.internal"] {
        let owner = format!("{name}.");
        let answer = ask(&ASKER, name, A);
        assert_eq!(answer.flags, FLAGS);
        let v4 = Record { owner: owner.clone(), kind: A, class: 1, ttl: TTL, data: VIP4.octets().to_vec() };
        assert_eq!(answer.answers, [v4]);
        let v6 = Record { owner, kind: AAAA, class: 1, ttl: TTL, data: VIP6.octets().to_vec() };
        let answer = ask(&ASKER, name, AAAA);
        assert_eq!(answer.answers, [v6]);
        assert!(answer.authorities.is_empty() && answer.additional.is_empty());
    }
}

#[test]
fn what_a_name_lacks_is_no_data_and_may_be_remembered() {
    for (name, kind, owner) in [("old", AAAA, "."), ("api", MX, "."), ("api.internal", MX, "internal.")] {
        let answer = ask(&ASKER, name, kind);
        assert_eq!((answer.flags, answer.answers.len()), (FLAGS, 0));
        let [soa] = answer.authorities.as_slice() else { panic!("{answer:?}") };
        assert_eq!((soa.owner.as_str(), soa.kind, soa.ttl), (owner, SOA, TTL));
        let (mname, end) = super::reader::name(&soa.data, 0);
        let (rname, end) = super::reader::name(&soa.data, end);
        assert_eq!((mname.as_str(), rname.as_str(), soa.data.len()), ("internal.", "nobody.invalid.", end + 20));
        assert_eq!(soa.data[end + 16..], TTL.to_be_bytes(), "RFC 2308: the least of TTL and this counts");
    }
}

#[test]
fn an_unknown_name_does_not_exist_and_is_not_asked_for_elsewhere() {
    for name in ["nobody", "nobody.internal", "api.staging.shop.internal", "internal", "com", "hidden"] {
        let answer = ask(&WORLDLY, name, A);
        assert_eq!((answer.flags, answer.answers.len(), answer.authorities.len()), (FLAGS | 3, 0, 1), "{name}");
    }
    let other_environment = crate::decide::Asker { env: 2, ..ASKER };
    assert_eq!(ask(&other_environment, "api", A).rcode(), 3);
}

#[test]
fn a_service_that_says_its_port_has_an_srv_record() {
    for (name, target) in [
        ("api", "api"),
        ("api.internal", "api.internal"),
        ("_http._tcp.api.internal", "api.internal"),
        ("_HTTP._tcp.Api.production.shop.internal", "Api.production.shop.internal"),
        ("_abcdefghijklmno._sctp.api.internal", "api.internal"),
    ] {
        let answer = ask(&WORLDLY, name, SRV);
        let data = [&[0; 4], &PORT.to_be_bytes()[..], &wire(target)].concat();
        let record = Record { owner: format!("{name}."), kind: SRV, class: 1, ttl: TTL, data };
        assert_eq!((answer.flags, answer.answers), (FLAGS, vec![record]));
    }
    for (name, kind, rcode) in [
        ("old", SRV, 0),
        ("_tcp.api.internal", SRV, 0),
        ("_http._tcp.api.internal", A, 0),
        ("_http._tcp.api.internal", AAAA, 0),
        ("_http._tcp.hidden.internal", SRV, 3),
        ("_http._tcp.nobody.internal", SRV, 3),
        ("_a._http._tcp.api.internal", SRV, 3),
        ("http._tcp.api.internal", SRV, 3),
        ("_abcdefghijklmnop._tcp.api.internal", SRV, 3),
        ("_http._tcp.internal", SRV, 3),
        ("_http", SRV, 3),
    ] {
        let answer = ask(&WORLDLY, name, kind);
        assert_eq!((answer.rcode(), answer.answers.len(), answer.authorities.len()), (rcode, 0, 1), "{name}");
    }
}

#[test]
fn an_address_of_the_pools_has_a_name_or_none_and_never_another_answer() {
    let reverse6 = "1.0.0.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.7.5.6.b.6.3.5.d.f.ip6.arpa";
    for name in ["1.1.224.10.in-addr.arpa", "1.1.224.10.IN-ADDR.ARPA", reverse6, &reverse6.to_uppercase()] {
        let answer = ask(&WORLDLY, name, PTR);
        let [ptr] = answer.answers.as_slice() else { panic!("{answer:?}") };
        assert_eq!((ptr.owner.as_str(), ptr.kind), (format!("{name}.").as_str(), PTR));
        assert_eq!(ptr.data, wire("api.production.shop.internal"));
        assert_eq!(ask(&WORLDLY, name, A).answers.len(), 0, "there is a name, but no address of it");
        assert_eq!(ask(&WORLDLY, name, A).rcode(), 0);
    }
    for name in ["9.9.224.10.in-addr.arpa", "1.0.208.10.in-addr.arpa", &reverse6.replacen('1', "2", 1)] {
        let answer = ask(&WORLDLY, name, PTR);
        assert_eq!((answer.rcode(), answer.authorities.len()), (3, 1), "{name}");
    }
}

#[test]
fn what_the_client_wrote_comes_back_as_it_was() {
    let mut message = question(&wire("aPi.iNTERNAL"), A);
    message[11] = 1;
    // Checking disabled, no recursion desired.
    (message[2], message[3]) = (0, 0x30);
    message.extend(opt());
    let answer = answer(&tables(), &ASKER, &message);
    assert_eq!(answer.flags, 0x8490, "AD is not ours to give");
    assert_eq!(answer.answers[0].owner, "aPi.iNTERNAL.");
    let [record] = answer.additional.as_slice() else { panic!("{answer:?}") };
    assert_eq!((record.owner.as_str(), record.kind, record.class, record.ttl), (".", 41, 1232, 0x8000));
    assert_eq!(record.data, opt()[11..]);
}

#[test]
fn the_longest_of_everything_still_fits() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}.internal", "a".repeat(52));
    let name = wire(&longest);
    assert_eq!(name.len(), 255);
    let mut message = question(&name, A);
    message[11] = 1;
    // 128 octets of OPT.
    message.extend([0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 117]);
    message.extend([7; 117]);
    let answer = answer(&tables(), &ASKER, &message);
    assert_eq!((answer.rcode(), answer.additional[0].data.len()), (3, 117));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn case_does_not_matter_and_is_kept(upper in any::<u32>(), which in 0..3_usize) {
        let name = ["api", "api.internal", "api.production.shop.internal"][which];
        let mixed: String = name.chars().enumerate()
            .map(|(i, c)| if upper >> i & 1 == 1 { c.to_ascii_uppercase() } else { c })
            .collect();
        let answer = ask(&ASKER, &mixed, A);
        prop_assert_eq!(&answer.answers[0].data, &VIP4.octets());
        prop_assert_eq!(&answer.answers[0].owner, &format!("{mixed}."));
    }

    #[test]
    fn a_name_that_only_looks_alike_is_another(octet in any::<u8>(), at in 1..13_usize) {
        let mut name = wire("api.internal");
        prop_assume!(!name[at].eq_ignore_ascii_case(&octet) && at != 4);
        name[at] = octet;
        let answer = answer(&tables(), &ASKER, &question(&name, A));
        prop_assert_eq!(answer.answers.len(), 0);
        prop_assert_eq!(answer.rcode(), 3);
    }
}
