//! What is not the cluster: the node itself, its other networks, the LAN, the internet. Nothing of it reaches a
//! container, and a container reaches only what is public. Each "no" stands beside the "yes" that shows the way is there.

use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context as _, ensure};
use dataplane_ebpf::abi::Reason;
use tests::load::Place;
use tests::netns::Namespace;
use tests::probe::{Outcome, Protocol, Responder, probe};
use tests::raw::Wire;

use crate::bed::{Bed, DNS, Replica, place};
use crate::model;

/// Public servers, and what must not be reached although the way is there.
const PUBLIC: [&str; 2] = ["11.1.0.1", "2a00:5ce9:1::1"];
const PRIVATE: [&str; 3] = ["192.168.77.1", "169.254.169.254", "fd00:5ce9::1"];
/// Behind another device of the node; the last two have public addresses.
const BRIDGED: [(&str, Reason); 4] = [
    ("172.17.0.2", Reason::EgressDenied),
    ("fd00:d0c::2", Reason::EgressDenied),
    ("11.2.0.2", Reason::NotUplink),
    ("2a00:5ce9:2::2", Reason::NotUplink),
];

/// Probes `to` by every protocol from the calling thread's namespace.
fn all_protocols(to: IpAddr, blocked: impl Fn(usize) -> bool) -> anyhow::Result<Vec<(Protocol, Outcome)>> {
    let outcomes = probe(&Protocol::ALL.map(|protocol| (protocol, to)), blocked)?;
    Ok(Protocol::ALL.into_iter().zip(outcomes).collect())
}

fn must_answer(who: &str, to: IpAddr, from: Option<&Namespace>) -> anyhow::Result<()> {
    let probes = || all_protocols(to, |_| false);
    for (protocol, outcome) in from.map_or_else(probes, |from| from.enter(probes))? {
        ensure!(matches!(outcome, Outcome::Answered(_)), "control: {who} → {to}, {protocol:?}: {outcome}");
    }
    Ok(())
}

/// No protocol gets an answer, and every probe is counted for `replica` by one of `reasons`.
fn must_fail(
    bed: &Bed,
    who: &str,
    to: IpAddr,
    from: Option<&Namespace>,
    (replica, reasons): (&Replica, &[Reason]),
) -> anyhow::Result<()> {
    let counted = || reasons.iter().map(|reason| bed.dropped(replica, *reason)).sum::<anyhow::Result<u64>>();
    let before = counted()?;
    let enough = |probes| counted().is_ok_and(|now| now >= before + probes as u64);
    let probes = || all_protocols(to, enough);
    for (protocol, outcome) in from.map_or_else(probes, |from| from.enter(probes))? {
        // A process of the host is told by its own stack what a program does on the way out. That it was our program
        // and no full queue, the count below says.
        let blocked = matches!(outcome, Outcome::Silent | Outcome::Denied | Outcome::Discarded);
        ensure!(blocked, "{who} → {to}, {protocol:?}: {outcome}, should be one of {reasons:?}");
    }
    let (now, probes) = (counted()?, Protocol::ALL.len() as u64);
    let all = bed.drops_line();
    ensure!(now >= before + probes, "{who} → {to}: {} of {probes} counted as {reasons:?}; all: {all}", now - before);
    Ok(())
}

/// Every address that ip(8) knows of in the calling thread's namespace.
fn own_addresses() -> anyhow::Result<Vec<IpAddr>> {
    let output = Command::new("ip").args(["-j", "addr"]).output().context("starting ip(8)")?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let addresses = links.as_array().into_iter().flatten().filter_map(|link| link["addr_info"].as_array()).flatten();
    Ok(addresses.map(|info| info["local"].as_str().unwrap_or_default().parse()).collect::<Result<_, _>>()?)
}

fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

#[test]
fn no_address_of_the_host_is_reached_from_a_container() -> anyhow::Result<()> {
    let bed = Bed::new(model::services(), 1)?;
    let _host = Responder::start(Place::default(), "host".to_owned())?;
    let web = bed.named("shop/production/web")?;
    let reasons = [Reason::NoRoute, Reason::NotUplink, Reason::EgressDenied];
    let mut checked = 0;
    for address in own_addresses()?.into_iter().filter(|address| !address.is_loopback() && *address != DNS) {
        if !is_link_local(&address) {
            must_answer("lan", address, Some(&bed.surroundings.lan))?;
            must_fail(&bed, "web", address, Some(&web.namespace), (web, &reasons))?;
            checked += 1;
        }
    }
    // Two on the uplink, four on the other device.
    ensure!(checked >= 6, "only {checked} addresses of the host found");
    // Its own loopback answers a container, with nobody listening there, not the host's.
    for loopback in ["127.0.0.1", "::1"] {
        must_answer("host", loopback.parse()?, None)?;
        for (protocol, outcome) in web.namespace.enter(|| all_protocols(loopback.parse()?, |_| true))? {
            let own = matches!(outcome, Outcome::Refused | Outcome::Silent | Outcome::Answered(None));
            ensure!(own, "web → {loopback}, {protocol:?}: {outcome}");
        }
    }
    // The gateways are nobody.
    must_fail(&bed, "web", "169.254.1.1".parse()?, Some(&web.namespace), (web, &reasons))
}

#[test]
fn only_public_addresses_beyond_an_uplink_are_reached_from_a_container() -> anyhow::Result<()> {
    let bed = Bed::new(model::services(), 1)?;
    let _lan = Responder::start(place(&bed.surroundings.lan)?, "lan".to_owned())?;
    let _bridged = Responder::start(place(&bed.surroundings.bridged)?, "bridged".to_owned())?;
    let (web, db) = (bed.named("shop/production/web")?, bed.named("shop/production/db")?);
    for to in PUBLIC {
        must_answer("web", to.parse()?, Some(&web.namespace))?;
        must_fail(
            &bed,
            "db, all of whose networks are internal,",
            to.parse()?,
            Some(&db.namespace),
            (db, &[Reason::EgressOff]),
        )?;
    }
    for to in PRIVATE {
        must_answer("host", to.parse()?, None)?;
        must_fail(&bed, "web", to.parse()?, Some(&web.namespace), (web, &[Reason::EgressDenied]))?;
    }
    for (to, reason) in BRIDGED {
        must_answer("host", to.parse()?, None)?;
        must_fail(&bed, "web", to.parse()?, Some(&web.namespace), (web, &[reason]))?;
    }
    for to in ["10.208.255.1", "fd53:6b65:7000::ffff"] {
        must_fail(&bed, "web", to.parse()?, Some(&web.namespace), (web, &[Reason::UnknownAddress]))?;
    }
    Ok(())
}

#[test]
fn nothing_outside_reaches_a_container() -> anyhow::Result<()> {
    let bed = Bed::new(model::services(), 1)?;
    let _responders = bed.respond()?;
    let _host = Responder::start(Place::default(), "host".to_owned())?;
    let api = bed.named("shop/production/api")?;
    let (lan, bridged) = (&bed.surroundings.lan, &bed.surroundings.bridged);
    for ipv6 in [false, true] {
        let address = api.address(ipv6);
        must_answer("web", address, Some(&bed.named("shop/production/web")?.namespace))?;
        let host: IpAddr = if ipv6 { "2a00:5ce9::10".parse()? } else { "11.0.0.10".parse()? };
        for (who, from) in [("lan", lan), ("bridged", bridged)] {
            must_answer(who, host, Some(from))?;
            must_fail(&bed, who, address, Some(from), (api, &[Reason::NotAReply]))?;
        }
        must_answer("host", host, None)?;
        must_fail(&bed, "a process of the host", address, None, (api, &[Reason::LocalProcess]))?;
    }
    // Virtual addresses are nowhere but in containers' sockets: the host's routes end there.
    for ipv6 in [false, true] {
        let vip = bed.vip(api.service, ipv6);
        for (who, from) in [("lan", Some(lan)), ("bridged", Some(bridged)), ("host", None)] {
            let probes = || all_protocols(vip, |_| false);
            for (protocol, outcome) in from.map_or_else(probes, |from| from.enter(probes))? {
                ensure!(!matches!(outcome, Outcome::Answered(_)), "{who} → {vip}, {protocol:?}: {outcome}");
            }
        }
    }
    Ok(())
}

/// A replica that is gone: its address leads nowhere, in particular not out to the LAN by the default route.
#[test]
fn a_removed_address_is_dropped_and_leaves_by_no_other_way() -> anyhow::Result<()> {
    let bed = Bed::new(model::services(), 2)?;
    let _responders = bed.respond()?;
    let (web, gone) = (bed.named("shop/production/web")?, bed.named("shop/production/api")?);
    let stays = bed.replica(gone.service, 2);
    let outside = bed.surroundings.lan.enter(|| Ok(Wire::open("eth0")?))?;
    for ipv6 in [false, true] {
        must_answer("web", gone.address(ipv6), Some(&web.namespace))?;
    }
    bed.remove(gone)?;
    outside.drain()?;
    for ipv6 in [false, true] {
        must_answer("web", stays.address(ipv6), Some(&web.namespace))?;
        must_fail(&bed, "web", gone.address(ipv6), Some(&web.namespace), (web, &[Reason::UnknownAddress]))?;
        // The service goes on by its name's address, with the backend that is left.
        must_answer("web", bed.vip(gone.service, ipv6), Some(&web.namespace))?;
        // The host has nothing more to do with it either.
        for (protocol, outcome) in all_protocols(gone.address(ipv6), |_| true)? {
            ensure!(!matches!(outcome, Outcome::Answered(_)), "host → the removed address, {protocol:?}: {outcome}");
        }
    }
    let [gone4, gone6] = [gone.veth.address4.octets().to_vec(), gone.veth.address6.octets().to_vec()];
    let leaked = outside.drain()?.into_iter().filter(|frame| {
        [&gone4, &gone6].iter().any(|address| frame.windows(address.len()).any(|octets| octets == address.as_slice()))
    });
    ensure!(leaked.count() == 0, "packets for a removed address left the node");
    Ok(())
}
