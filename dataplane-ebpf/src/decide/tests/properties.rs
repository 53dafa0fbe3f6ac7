//! What holds of any frame whatsoever.

use proptest::prelude::*;

use super::setting::*;
use crate::decide::Verdict;

/// A packet between two of the addresses that matter, with a bit of it broken.
fn frames() -> impl Strategy<Value = (usize, Vec<u8>)> {
    let addresses = prop_oneof![
        (0..4_usize).prop_map(|i| std::net::IpAddr::from(REPLICAS[i].v4())),
        Just(VIP4.into()),
        Just(DNS.into()),
        Just(OUTSIDE4.into()),
        any::<[u8; 4]>().prop_map(|octets| std::net::Ipv4Addr::from(octets).into()),
    ];
    let breaks = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (0..4_usize, addresses, 0..4_usize, breaks, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(sender, to, kind, breaks, cut, is_cut)| {
            let from = REPLICAS[sender].v4().into();
            let packet = match kind {
                0 => tcp(from, to, (1000, 53)),
                1 => udp(from, to, (1000, 53)),
                2 => echo(from, to, 7, false),
                _ => unreachable(from, to, &udp(to, from, (53, 1000))),
            };
            let mut frame = REPLICAS[sender].frame(packet);
            for (at, octet) in breaks {
                let at = at.index(frame.len());
                frame[at] = octet;
            }
            if is_cut {
                frame.truncate(cut.index(frame.len()));
            }
            (sender, frame)
        },
    )
}

/// Two replicas, a kind of packet, and what is broken of it.
fn crossings() -> impl Strategy<Value = (usize, usize, usize, Vec<(prop::sample::Index, u8)>, bool)> {
    let replica = || 0..REPLICAS.len() + REMOTES.len();
    let breaks = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (replica(), replica(), 0..4_usize, breaks, any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    /// Seen with other eyes: straight from the octets.
    #[test]
    fn only_who_shares_a_network_is_reached((sender, frame) in frames()) {
        let fake = node();
        let from = REPLICAS[sender];
        let verdict = sends(&fake, &from, &frame);
        let to = frame.get(30..34).map(|octets| std::net::Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]));
        match verdict {
            Verdict::Deliver { ifindex } => {
                let receiver = REPLICAS.iter().find(|replica| Some(replica.v4()) == to).unwrap();
                prop_assert_eq!(ifindex, receiver.ifindex());
                prop_assert_eq!(receiver.identity.env, from.identity.env);
                prop_assert_ne!(receiver.networks & from.networks, 0);
                prop_assert_eq!(&frame[26..30], &from.v4().octets());
                prop_assert_eq!(&frame[6..12], &from.mac());
            }
            Verdict::Stack => {
                let to = to.unwrap();
                prop_assert!(to == OUTSIDE4 && from.flags != 0 || to == DNS, "{} leaves", to);
            }
            Verdict::Dns(question) => prop_assert_eq!(question.at as usize + question.len as usize, 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]))),
            Verdict::Echo(_) => prop_assert!(to == Some(DNS) || to == Some(VIP4) && from == A || to == Some(VIP4) && from == B),
            Verdict::Tunnel { .. } | Verdict::TooBig(_) => prop_assert!(false, "{:?} is on another node", to),
            Verdict::Pass => prop_assert!(false, "from a replica, nothing just passes"),
            Verdict::Drop(_) => {}
        }
    }

    /// Any packet whatsoever between any two replicas, of this node or another, with a bit of it broken.
    #[test]
    fn through_a_tunnel_others_reach_those_of_here_that_share_a_network((from, to, kind, breaks, v6) in crossings()) {
        let all: Vec<_> = REPLICAS.into_iter().chain(REMOTES).collect();
        let (source, destination) = (all[from], all[to]);
        let (a, b) = match v6 {
            true => (source.v6().into(), destination.v6().into()),
            false => (std::net::IpAddr::from(source.v4()), std::net::IpAddr::from(destination.v4())),
        };
        let packet = match kind {
            0 => tcp(a, b, (1000, 53)),
            1 => udp(a, b, (1000, 53)),
            2 => echo(a, b, 7, false),
            _ => unreachable(a, b, &udp(b, a, (53, 1000))),
        };
        let mut frame = headed(packet);
        for (at, octet) in &breaks {
            let at = at.index(frame.len() - 14) + 14;
            frame[at] = *octet;
        }
        match arrives(&node(), &frame) {
            Verdict::Deliver { ifindex } => {
                let place = |at: usize, len: usize| frame[at..at + len].to_vec();
                let (said, meant) = if v6 { (place(22, 16), place(38, 16)) } else { (place(26, 4), place(30, 4)) };
                let owner = |octets: &[u8]| {
                    all.iter().position(|it| it.v4().octets() == *octets || it.v6().octets() == *octets).unwrap()
                };
                let (sender, receiver) = (owner(&said), owner(&meant));
                prop_assert!(sender >= REPLICAS.len() && receiver < REPLICAS.len());
                prop_assert_eq!(ifindex, all[receiver].ifindex());
                prop_assert_eq!(all[sender].identity.env, all[receiver].identity.env);
                prop_assert_ne!(all[sender].networks & all[receiver].networks, 0);
            }
            Verdict::Drop(_) => {
                let fine = from >= REPLICAS.len() && to < REPLICAS.len() && source.identity.env == destination.identity.env
                    && source.networks & destination.networks != 0;
                prop_assert!(!fine || !breaks.is_empty());
            }
            verdict => prop_assert!(false, "{:?}", verdict),
        }
    }

    #[test]
    fn nothing_unasked_gets_in(octets in proptest::collection::vec(any::<u8>(), 0..120), ingress in 0..3_u32) {
        let fake = node();
        let mut frame = A.incoming(udp(OUTSIDE4.into(), A.v4().into(), (1, 2)));
        frame.truncate(34);
        frame.extend(octets);
        prop_assert!(matches!(receives(&fake, &A, &frame, ingress, 0), Verdict::Drop(_)));
    }

    #[test]
    fn any_octets_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..2_usize) {
        let mut frame = A.frame(Vec::new());
        frame.extend(octets);
        frame[12..14].copy_from_slice(&[[8, 0], [0x86, 0xdd]][kind]);
        sends(&node(), &A, &frame);
        receives(&node(), &A, &frame, 0, 0);
        arrives(&node(), &frame);
    }
}
