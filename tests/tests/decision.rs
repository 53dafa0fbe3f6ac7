//! The packet programs, run by the kernel over made packets (`BPF_PROG_TEST_RUN`), decide as the rules and the pure
//! functions say, packet for packet and octet for octet.

#[path = "packets/corpus.rs"]
mod corpus;
#[path = "packets/mirror.rs"]
mod mirror;
#[path = "packets/mutate.rs"]
mod mutate;
#[path = "packets/octets.rs"]
mod octets;
#[path = "packets/reader.rs"]
mod reader;
#[path = "packets/too_big.rs"]
mod too_big;
#[path = "packets/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use corpus::{Case, cases};
use dataplane_ebpf::abi::{Addr, Budget, NodeConfig, Reason, action, map};
use dataplane_ebpf::decide::Frame;
use mirror::{ETHERNET, Fate, Mirror, Way};
use mutate::Random;
use tests::netns::Namespace;
use world::{A, B, D, OUTSIDE4, REPLICAS, Replica};

/// Reasons that no packet can be dropped for: those of the socket programs, and want of memory.
const NOT_OF_PACKETS: [Reason; 3] = [Reason::NoBackend, Reason::SocketMemory, Reason::KernelRefused];

/// Runs `work` in the network namespace that the programs look devices and routes up in.
fn on_the_host(work: impl FnOnce(&mut Mirror) -> Result<()> + Send) -> Result<()> {
    let mut mirror = Mirror::new()?;
    mirror.grant(A.identity, D.identity, action::ALLOW, 7)?;
    mirror.grant(B.identity, D.identity, action::DENY, 8)?;
    Namespace::open(&mirror.world.host.path())?.enter(move || work(&mut mirror))
}

/// A UDP packet that a replica sends.
fn sent(from: &Replica, to: IpAddr) -> (Frame, Vec<u8>) {
    let source = if to.is_ipv4() { from.v4().into() } else { from.v6().into() };
    let packet = corpus::udp(source, to, (1, 2), b"x");
    let about = Frame { ifindex: from.ifindex(), ..Frame::default() };
    (about, tests::raw::Ethernet::ip(from.mac(), from.host_mac(), packet).bytes())
}

#[test]
fn every_kind_of_packet_has_its_fate_and_every_reason_a_packet() -> Result<()> {
    on_the_host(|mirror| {
        let mut reasons = BTreeSet::from(NOT_OF_PACKETS);
        for Case { what, way, about, packet, fate } in cases() {
            let found = mirror.agree(way, &about, &packet).with_context(|| what)?;
            ensure!(fate.is(found), "{what}: {found:?} instead of {fate:?}");
            if let Fate::Drop(reason) = found {
                reasons.insert(reason);
            }
        }
        mirror.compare_and_forget_flows()?;
        reasons.extend(exhausted(mirror)?);
        reasons.extend(torn(mirror)?);
        reasons.extend(unconfigured(mirror)?);
        let missing: Vec<_> = Reason::ALL.iter().filter(|reason| !reasons.contains(reason)).collect();
        ensure!(missing.is_empty(), "no packet is dropped for {missing:?}");
        Ok(())
    })
}

/// No tokens left, and none to come back before the machine is 500 years old.
fn exhausted(mirror: &mut Mirror) -> Result<Option<Reason>> {
    mirror.budget(D.ifindex(), Budget { tokens: 0, refilled: u64::MAX })?;
    let (about, packet) = sent(&D, OUTSIDE4.into());
    Ok(reason(mirror.agree(Way::From, &about, &packet)?))
}

/// An entry whose seal is another key's.
fn torn(mirror: &mut Mirror) -> Result<Option<Reason>> {
    let mut endpoints = mirror.raw::<[u8; 16], 40>(map::ENDPOINTS)?;
    let (torn, whole) = (Addr::from(Replica { host: 77, ..B }.v4()), Addr::from(B.v4()));
    endpoints.insert(torn.octets(), endpoints.get(&whole.octets(), 0)?, 0)?;
    let (about, packet) = sent(&A, torn.to_ip());
    let run = mirror.run(Way::From, &about, &packet)?;
    ensure!(run.verdict == 2, "a torn entry is believed: {run:?}");
    let counted = dataplane::bpf::drops(&mirror.world.maps)?;
    Ok(counted.iter().find(|line| line.reason() == Some(Reason::TornRead)).map(|_| Reason::TornRead))
}

/// A node that skepd has not configured.
fn unconfigured(mirror: &mut Mirror) -> Result<Option<Reason>> {
    mirror.pure.node = None;
    mirror.world.maps.set_node(&NodeConfig::default())?;
    let (about, packet) = sent(&A, B.v4().into());
    Ok(reason(mirror.agree(Way::From, &about, &packet)?))
}

fn reason(fate: Fate) -> Option<Reason> {
    match fate {
        Fate::Drop(reason) => Some(reason),
        _ => None,
    }
}

/// How many packets, and from which seed: `SKEP_FUZZ_COUNT`, `SKEP_FUZZ_SEED`.
fn extent() -> Result<(u64, u64)> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>()).transpose().context(name);
    let count = number("SKEP_FUZZ_COUNT")?.unwrap_or(120_000);
    let seed = match number("SKEP_FUZZ_SEED")? {
        Some(seed) => seed,
        None => u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos()),
    };
    println!("SKEP_FUZZ_COUNT={count} SKEP_FUZZ_SEED={seed}");
    Ok((count, seed))
}

/// Mutates `seeds` over and over; program and pure function have to agree on each, and the rules in their plainest
/// form have to hold of what passes. Returns how many passed in any way.
fn fuzz(mirror: &mut Mirror, seeds: &[Case]) -> Result<u64> {
    let (count, seed) = extent()?;
    let (mut random, mut passed) = (Random::new(seed), 0);
    for round in 0..count {
        let Case { way, mut about, mut packet, .. } = seeds[random.below(seeds.len())].clone();
        // Some stay as they are, so that there are flows to belong to.
        if random.below(8) > 0 {
            mutate::mutate(&mut random, &mut packet);
            mutate::surroundings(&mut random, &mut about);
        }
        if way == Way::Through {
            packet = through_the_tunnel(&packet);
        }
        let fate = mirror.agree(way, &about, &packet).with_context(|| format!("round {round} of seed {seed}"))?;
        passed += u64::from(!matches!(fate, Fate::Drop(_)));
        let sender = REPLICAS.iter().find(|replica| replica.ifindex() == about.ifindex);
        let checked = match (fate, sender) {
            (Fate::Deliver(to), _) if way == Way::Through => reader::check_arrival(&packet, to),
            (Fate::Tunnel | Fate::TooBig, Some(sender)) => reader::check_departure(sender, &packet),
            (Fate::Deliver(to), Some(sender)) => reader::check_sender(sender, &packet, Some(to)),
            (Fate::Stack, Some(sender)) => reader::check_sender(sender, &packet, None),
            _ => Ok(()),
        };
        checked.with_context(|| format!("round {round} of seed {seed}: {way:?} {about:?} {packet:02x?}"))?;
        // Long before the kernel has to forget one.
        if round % 10_000 == 9_999 {
            mirror.compare_and_forget_flows()?;
        }
    }
    mirror.compare_and_forget_flows()?;
    Ok(passed)
}

/// The packet as a device without Ethernet headers has it, behind the one that it gets.
fn through_the_tunnel(packet: &[u8]) -> Vec<u8> {
    let mut packet = corpus::headed(packet[ETHERNET..].to_vec());
    // To the kernel's test, its first 14 octets are an Ethernet header: it wants what the type of that announces.
    // What fills a short one up is part of it.
    packet.resize(packet.len().max(2 * ETHERNET), 0);
    if matches!(packet[2 * ETHERNET - 2..], [8, 0, ..] | [0x86, 0xdd, ..]) {
        packet.resize(packet.len().max(68), 0);
    }
    packet
}

#[test]
fn mutated_packets_are_decided_alike() -> Result<()> {
    on_the_host(|mirror| {
        let passed = fuzz(mirror, &cases())?;
        ensure!(passed > 1_000, "only {passed} packets passed: nothing was tried");
        Ok(())
    })
}

#[test]
fn mutated_questions_are_answered_alike() -> Result<()> {
    on_the_host(|mirror| {
        let dns = world::DNS.octets();
        let questions: Vec<_> = cases()
            .into_iter()
            .filter(|case| case.packet.len() > 54 && case.packet[30..34] == dns && case.packet[23] == 17)
            .collect();
        ensure!(questions.len() > 20);
        let passed = fuzz(mirror, &questions)?;
        ensure!(passed > 1_000, "only {passed} questions were answered: nothing was tried");
        Ok(())
    })
}

#[test]
fn the_verifier_is_far_from_its_limit() -> Result<()> {
    for (name, instructions) in Mirror::new()?.world.programs.verified_instructions()? {
        println!("{name}: {instructions}");
        ensure!(instructions < 300_000, "{name} takes the verifier {instructions} instructions of a million");
    }
    Ok(())
}
