//! Socket calls, over plain collections: each outcome, each reason, and what may never come out.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::{
    abi::{EgressKey, EgressRule, Endpoint, GrantKey, Identity, ListKey, Listed, NodeConfig, Pool, Service, flags},
    tables::fake::Fake,
};

/// Cookie of the asking replica: environment 1, service 10, network bit 0.
const ASKER: u64 = 7;
const OWN: Ipv4Addr = Ipv4Addr::new(10, 208, 0, 2);
const ICMP: u8 = 1;

/// VIP and replica `n` of the pools.
fn vip(n: u8) -> Addr {
    IpAddr::from([10, 224, 0, n]).into()
}

fn replica(n: u8) -> Addr {
    IpAddr::from([10, 208, 0, n]).into()
}

/// A node with a replica that asks, service 11 in its network with backends 3 (here) and 4 (elsewhere), service 12 in
/// another network, service 13 without a backend, and service 21 of environment 2.
fn node() -> Fake {
    let pool = |text: &str, length| Pool::new(text.parse().unwrap(), length);
    let mut fake = Fake {
        node: Some(NodeConfig {
            container_pools: [pool("10.208.0.0", 12), pool("fd53:6b65:7000::", 48)],
            vip_pools: [pool("10.224.0.0", 16), pool("fd53:6b65:7001::", 64)],
            dns: vip(53),
            mark_mask: 1,
            ..NodeConfig::default()
        }),
        ..Fake::default()
    };
    let identity = Identity { env: 1, service: 10 };
    let address4 = Addr::from(IpAddr::V4(OWN)).v4_word();
    fake.netns.insert(ASKER, Netns { networks: 1, identity, address4, flags: flags::EGRESS, ..Netns::default() });
    serve(&mut fake, 1, 11, 1, &[3, 4], 1);
    serve(&mut fake, 1, 12, 2, &[5], 1);
    serve(&mut fake, 1, 13, 1, &[], 0);
    serve(&mut fake, 2, 21, 1, &[6], 1);
    let everything = EgressKey { prefix_len: 0, addr: Addr::NONE };
    fake.egress.push((everything, EgressRule { action: action::ALLOW, rule: 1 }));
    let private = EgressKey { prefix_len: 96 + 16, addr: IpAddr::from([192, 168, 0, 0]).into() };
    fake.egress.push((private, EgressRule { action: action::DENY, rule: 2 }));
    fake
}

/// A service at the VIP of its own number with these backends, the first `local` of them on this node.
fn serve(fake: &mut Fake, env: u32, id: u32, networks: u64, backends: &[u8], local: u16) {
    let set = Backends { generation: 5, count: backends.len() as u16, local };
    let service = Service { backends: set.word(), networks, service: id, ..Service::default() };
    fake.services.insert(ServiceKey { env, vip: vip(id as u8) }, service);
    for (slot, n) in (0..).zip(backends) {
        let backend = Backend { address4: replica(*n).v4_word(), ..Backend::default() };
        fake.backends.insert(BackendKey { service: id, generation: 5, slot }, backend);
        let endpoint = Endpoint { networks, identity: Identity { env, service: id }, ..Endpoint::default() };
        fake.endpoints.insert(replica(*n), endpoint);
    }
}

fn attempt(addr: Addr) -> Attempt {
    Attempt { cookie: ASKER, protocol: TCP, addr, port: 80_u16.to_be(), random: 0 }
}

fn verdict(fake: &Fake, attempt: Attempt) -> Verdict {
    connect(fake, &attempt, |_, _| None).verdict()
}

fn to(fake: &Fake, addr: Addr) -> Verdict {
    verdict(fake, attempt(addr))
}

fn backend(verdict: Verdict) -> Option<Addr> {
    match verdict {
        Verdict::ToBackend(choice) => Some(choice.backend),
        _ => None,
    }
}

#[test]
fn a_vip_becomes_a_backend_of_this_node_as_long_as_there_is_one() {
    let mut fake = node();
    for random in [0, 1, u32::MAX] {
        assert_eq!(backend(verdict(&fake, Attempt { random, ..attempt(vip(11)) })), Some(replica(3)));
    }
    serve(&mut fake, 1, 11, 1, &[3, 4], 0);
    let picked = [0, 1].map(|random| backend(verdict(&fake, Attempt { random, ..attempt(vip(11)) })));
    assert_eq!(picked, [Some(replica(3)), Some(replica(4))]);
}

#[test]
fn with_affinity_a_client_always_gets_the_same_backend_and_clients_are_spread() {
    let mut fake = node();
    serve(&mut fake, 1, 11, 1, &[3, 4, 5], 0);
    let mut clients = [0; 3];
    for host in 0..=u8::MAX {
        fake.netns.get_mut(&ASKER).unwrap().address4 = Addr::from(IpAddr::from([10, 208, 7, host])).v4_word();
        let picked = [0, 1, 2].map(|random| backend(verdict(&fake, Attempt { random, ..attempt(vip(11)) })));
        assert_eq!(picked, [3, 4, 5].map(|n| Some(replica(n))), "nobody asked for affinity");
        let service = fake.services.get_mut(&ServiceKey { env: 1, vip: vip(11) }).unwrap();
        service.flags = flags::AFFINITY;
        let picked = [0, 1, u32::MAX].map(|random| backend(verdict(&fake, Attempt { random, ..attempt(vip(11)) })));
        assert!(picked[0].is_some() && picked.iter().all(|it| *it == picked[0]), "{picked:?}");
        clients[[3, 4, 5].iter().position(|n| picked[0] == Some(replica(*n))).unwrap()] += 1;
        fake.services.get_mut(&ServiceKey { env: 1, vip: vip(11) }).unwrap().flags = 0;
    }
    assert!(clients.iter().all(|count| (64..=107).contains(count)), "of 256 clients: {clients:?}");
}

#[test]
fn a_datagram_flow_stays_on_the_backend_it_has() {
    let remembered = |service, generation| (service == 11 && generation == 5).then(|| replica(4));
    let choice = connect(&node(), &attempt(vip(11)), remembered).choice;
    assert_eq!((choice.backend, choice.fresh), (replica(4), false));
}

#[test]
fn every_refusal_has_its_reason() {
    let fake = node();
    assert_eq!(to(&fake, vip(13)), Verdict::Refuse(Reason::NoBackend));
    assert_eq!(to(&fake, vip(12)), Verdict::Deny(Reason::NoSharedNetwork));
    assert_eq!(to(&fake, vip(21)), Verdict::Deny(Reason::UnknownVip), "of another environment");
    assert_eq!(to(&fake, vip(99)), Verdict::Deny(Reason::UnknownVip), "of nobody");
    assert_eq!(to(&fake, replica(5)), Verdict::Deny(Reason::NoSharedNetwork));
    assert_eq!(to(&fake, replica(6)), Verdict::Deny(Reason::OtherEnvironment));
    assert_eq!(to(&fake, replica(99)), Verdict::Deny(Reason::UnknownAddress));
    assert_eq!(to(&fake, IpAddr::from([192, 168, 1, 1]).into()), Verdict::Deny(Reason::EgressDenied));
    let mut inward = node();
    inward.netns.get_mut(&ASKER).unwrap().flags = 0;
    assert_eq!(to(&inward, IpAddr::from([11, 0, 0, 1]).into()), Verdict::Deny(Reason::EgressOff));
    let mut choosy = node();
    choosy.netns.get_mut(&ASKER).unwrap().flags |= flags::of_list(3);
    assert_eq!(to(&choosy, IpAddr::from([11, 0, 0, 1]).into()), Verdict::Deny(Reason::NotListed));
    let listed = Listed { service: 10, list: 3, addr: IpAddr::from([11, 0, 0, 0]).into() };
    let key = ListKey { prefix_len: ListKey::HEAD + 96 + 8, listed };
    choosy.lists.push((key, EgressRule { action: action::ALLOW, rule: 1 }));
    assert_eq!(to(&choosy, IpAddr::from([11, 0, 0, 1]).into()), Verdict::Pass);
    assert_eq!(to(&Fake { torn: true, ..node() }, vip(11)), Verdict::Deny(Reason::TornRead));
    assert_eq!(to(&Fake { node: None, ..node() }, vip(11)), Verdict::Deny(Reason::NoConfig));
}

#[test]
fn a_backend_without_an_address_of_the_family_serves_nobody() {
    let mut fake = node();
    let six: Addr = "fd53:6b65:7001::b".parse::<IpAddr>().unwrap().into();
    let service = fake.services[&ServiceKey { env: 1, vip: vip(11) }];
    fake.services.insert(ServiceKey { env: 1, vip: six }, service);
    assert_eq!(to(&fake, six), Verdict::Refuse(Reason::NoBackend));
}

#[test]
fn what_needs_no_change_passes() {
    let fake = node();
    let loopback = "::1".parse::<IpAddr>().unwrap().into();
    for addr in [IpAddr::from([127, 0, 0, 1]).into(), loopback, IpAddr::V4(OWN).into(), vip(53), replica(3)] {
        assert_eq!(to(&fake, addr), Verdict::Pass, "{addr}");
    }
    assert_eq!(to(&fake, IpAddr::from([11, 0, 0, 1]).into()), Verdict::Pass, "the internet");
    assert_eq!(verdict(&fake, Attempt { protocol: ICMP, ..attempt(vip(11)) }), Verdict::Pass, "ping of a VIP");
    assert_eq!(verdict(&fake, Attempt { cookie: 1, ..attempt(vip(21)) }), Verdict::Pass, "a netns of nobody's");
}

#[test]
fn a_grant_opens_and_a_deny_names_itself() {
    let mut fake = node();
    let key = GrantKey {
        source: Identity { env: 1, service: 10 },
        destination: Identity { env: 2, service: 21 },
        ..GrantKey::default()
    };
    fake.grants.insert(key, crate::abi::Grant { action: action::ALLOW, rule: 3, seal: 0 });
    assert_eq!(to(&fake, replica(6)), Verdict::Pass);
    fake.grants.insert(key, crate::abi::Grant { action: action::DENY, rule: 3, seal: 0 });
    assert_eq!(to(&fake, replica(6)), Verdict::Deny(Reason::Denied));
}

proptest! {
    /// Whatever the sets and whoever asks: a backend is one of the service asked for, in the asker's environment and
    /// networks, and no address of the pools passes that is not of a replica with a network in common.
    #[test]
    fn nobody_gets_across(
        sets in prop::collection::vec((1_u32..4, 0_u64..4, prop::collection::vec(3_u8..60, 0..4), 0_u16..4), 1..8),
        (env, networks) in (1_u32..4, 0_u64..4),
        (to_vip, n, random) in (any::<bool>(), 0_u8..64, any::<u32>()),
    ) {
        let mut fake = node();
        fake.services.clear();
        fake.endpoints.clear();
        for (id, (env, networks, backends, local)) in (1..).zip(&sets) {
            serve(&mut fake, *env, id, *networks, backends, (*local).min(backends.len() as u16));
        }
        let asker = fake.netns.get_mut(&ASKER).unwrap();
        (asker.identity.env, asker.networks) = (env, networks);
        let addr = if to_vip { vip(n) } else { replica(n) };
        prop_assume!(addr != vip(53) && addr != IpAddr::V4(OWN).into());
        match verdict(&fake, Attempt { random, ..attempt(addr) }) {
            Verdict::ToBackend(choice) => {
                let (of, shared, backends, _) = &sets[usize::from(n) - 1];
                prop_assert!(to_vip && choice.service == u32::from(n) && *of == env && shared & networks != 0);
                prop_assert!(backends.iter().any(|n| replica(*n) == choice.backend));
            }
            Verdict::Pass => {
                let endpoint = fake.endpoints.get(&addr);
                prop_assert!(endpoint.is_some_and(|e| e.identity.env == env && e.networks & networks != 0));
            }
            Verdict::Refuse(_) | Verdict::Deny(_) => {}
        }
    }
}
