use proptest::prelude::*;

use super::reader::*;
use crate::{
    abi::Reason,
    dns::{Outcome, Scratch},
};

fn becomes(asker: &crate::decide::Asker, message: &[u8]) -> Outcome {
    outcome(&tables(), asker, message, &mut Scratch::default())
}

#[test]
fn names_of_the_outside_are_for_those_who_may_go_there() {
    for name in ["example.com", "internal.example.com", "1.2.0.192.in-addr.arpa", "224.10.in-addr.arpa", ""] {
        let message = question(&wire(name), A);
        assert_eq!(becomes(&WORLDLY, &message), Outcome::Forward, "{name}");
        let answer = answer(&tables(), &ASKER, &message);
        assert_eq!((answer.flags, answer.authorities.len()), (0x8183, 0), "{name}: not ours to know, nor to remember");
    }
}

#[test]
fn what_is_forwarded_may_carry_more_than_we_answer() {
    let mut message = question(&wire("example.com"), A);
    message[11] = 2;
    message.extend([0; 600]);
    assert_eq!(becomes(&WORLDLY, &message), Outcome::Forward);
    let mut chaos = question(&wire("version.bind"), 16);
    let class = chaos.len() - 1;
    chaos[class] = 3;
    assert_eq!(becomes(&WORLDLY, &chaos), Outcome::Forward);
}

#[test]
fn what_is_no_plain_question_is_never_answered() {
    let plain = question(&wire("api"), A);
    let with = |at: usize, octet: u8| {
        let mut message = plain.clone();
        message[at] = octet;
        message
    };
    let mut opt_of_version_1 = [plain.clone(), opt()].concat();
    opt_of_version_1[11] = 1;
    opt_of_version_1[plain.len() + 6] = 1;
    let mut two_opts = [plain.clone(), opt(), opt()].concat();
    two_opts[11] = 2;
    let mut long_opt = [plain.clone(), vec![0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 118], vec![0; 118]].concat();
    long_opt[11] = 1;
    let mut cut_opt = [plain.clone(), opt()].concat();
    cut_opt[11] = 1;
    cut_opt.pop();
    for (why, message) in [
        ("an answer", with(2, 0x81)),
        ("another opcode", with(2, 0x29)),
        ("truncated", with(2, 0x03)),
        ("no question", with(5, 0)),
        ("two questions", with(5, 2)),
        ("with answers", with(7, 1)),
        ("with authorities", with(9, 1)),
        ("an additional record that is not there", with(11, 1)),
        ("a compressed name", with(12, 0xc0)),
        ("a reserved length", with(12, 0x43)),
        ("a label that goes past the end", with(12, 63)),
        ("another class", with(plain.len() - 1, 3)),
        ("any class", with(plain.len() - 1, 255)),
        ("octets after it", [plain.clone(), vec![0]].concat()),
        ("OPT of version 1", opt_of_version_1),
        ("two OPTs", two_opts),
        ("an OPT too long to echo", long_opt),
        ("an OPT cut short", cut_opt),
    ] {
        assert_eq!(becomes(&WORLDLY, &message), Outcome::Drop(Reason::BadDns), "{why}");
    }
    for len in 0..plain.len() {
        assert_eq!(becomes(&WORLDLY, &plain[..len]), Outcome::Drop(Reason::BadDns), "{len} octets of a question");
    }
}

#[test]
fn a_name_of_more_than_255_octets_is_none() {
    let label = "a".repeat(63);
    let mut name = wire(&format!("{label}.{label}.{label}.{}", "a".repeat(62)));
    assert_eq!(name.len(), 256);
    assert_eq!(becomes(&WORLDLY, &question(&name, A)), Outcome::Drop(Reason::BadDns));
    name = wire(&format!("{label}.{label}.{label}.{}", "a".repeat(61)));
    assert_eq!(becomes(&WORLDLY, &question(&name, A)), Outcome::Forward);
    let many = "a.".repeat(127);
    assert_eq!(becomes(&WORLDLY, &question(&wire(&many), A)), Outcome::Forward);
}

#[test]
fn a_reverse_name_that_is_not_canonical_is_a_name_like_any_other() {
    for name in
        ["01.1.224.10.in-addr.arpa", "1.1.224.010.in-addr.arpa", "1.1.224.266.in-addr.arpa", "1.1.224.10.in-addr.arpb"]
    {
        assert_eq!(becomes(&WORLDLY, &question(&wire(name), PTR)), Outcome::Forward, "{name}");
    }
}

#[test]
fn a_torn_entry_gives_no_answer() {
    let mut fake = tables();
    fake.torn = true;
    for name in ["api", "1.1.224.10.in-addr.arpa"] {
        let message = question(&wire(name), PTR);
        let outcome = outcome(&fake, &ASKER, &message, &mut Scratch::default());
        assert_eq!(outcome, Outcome::Drop(Reason::TornRead));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    /// Whatever is answered can be read to its last octet, and says nothing that the tables do not.
    #[test]
    fn broken_questions_get_no_wrong_answers(
        breaks in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        which in 0..5_usize,
        has_opt in any::<bool>(),
    ) {
        let name = ["api", "api.internal", "hidden", "1.1.224.10.in-addr.arpa", "_x._tcp.api.internal"][which];
        let mut message = question(&wire(name), [A, AAAA, MX, PTR, SRV][which]);
        if has_opt {
            message[11] = 1;
            message.extend(opt());
        }
        for (at, octet) in breaks {
            let at = at.index(message.len());
            message[at] = octet;
        }
        let mut scratch = Scratch::default();
        if let Outcome::Answer(len) = outcome(&tables(), &WORLDLY, &message, &mut scratch) {
            let answer = Answer::read(&scratch.message[..len as usize]);
            prop_assert_eq!(&answer.question, &message[12..12 + answer.question.len()]);
            for record in &answer.answers {
                let vip = record.data == VIP4.octets() || record.data == VIP6.octets();
                let named = record.data == wire("api.production.shop.internal");
                // The target as the client writes it.
                let at = record.data.strip_prefix(&[0, 0, 0, 0, 0x1f, 0x90]).map(<[u8]>::to_ascii_lowercase);
                let target = at.is_some_and(|at| [wire("api"), wire("api.internal")].contains(&at));
                prop_assert!(vip || named || target && record.kind == SRV);
            }
        }
    }
}
