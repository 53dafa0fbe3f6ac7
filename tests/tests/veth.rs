//! The packet programs between real network namespaces, met by the kernel's own TCP, UDP and ICMP and by `dig`.

#[path = "packets/attached.rs"]
mod attached;
#[path = "packets/calls.rs"]
mod calls;
#[path = "packets/world.rs"]
mod world;

use std::net::{IpAddr, UdpSocket};

use anyhow::{Result, ensure};
use attached::{Attached, addresses, with_and_without_offload};
use calls::{PATIENCE, PORT, any, pings, receive, tcp, udp};
use dataplane::bpf;
use dataplane_ebpf::abi::Reason;
use nix::sys::socket::{setsockopt, sockopt};
use tests::netns::Namespace;
use world::{A, ASIDE4, B, C, D, DNS, HIDDEN4, HOST4, NOWHERE4, OLD4, OUTSIDE4, OUTSIDE6, VIP4, VIP6};

#[test]
fn replicas_of_one_network_talk() -> Result<()> {
    let world = Attached::new()?;
    with_and_without_offload(&world, |offload| {
        for (from, to) in [(A, B), (B, A), (B, C), (C, B)] {
            for address in addresses(&to) {
                let (here, there) = (world.container(&from), world.container(&to));
                ensure!(tcp(here, there, address)?, "TCP {from:?} → {address}, offload {offload}");
                ensure!(udp(here, there, address)?, "UDP {from:?} → {address}, offload {offload}");
                ensure!(pings(here, address)?, "ping {from:?} → {address}, offload {offload}");
            }
        }
        Ok(())
    })?;
    let drops = bpf::drops(&world.maps)?;
    assert!(drops.iter().all(|line| line.reason() == Some(Reason::MulticastReport)), "{drops:?}");
    assert!(world.maps.flows.entries()?.is_empty(), "traffic inside an environment leaves no state");
    Ok(())
}

#[test]
fn environments_and_networks_are_apart() -> Result<()> {
    let world = Attached::new()?;
    for (from, to, reason) in [
        (A, C, Reason::NoSharedNetwork),
        (C, A, Reason::NoSharedNetwork),
        (A, D, Reason::OtherEnvironment),
        (D, A, Reason::OtherEnvironment),
        (D, B, Reason::OtherEnvironment),
    ] {
        for address in addresses(&to) {
            let before = world.dropped(&from, reason)?;
            let (here, there) = (world.container(&from), world.container(&to));
            assert!(!tcp(here, there, address)?, "TCP {from:?} → {address}");
            assert!(!udp(here, there, address)?, "UDP {from:?} → {address}");
            assert!(!pings(here, address)?, "ping {from:?} → {address}");
            assert!(world.dropped(&from, reason)? >= before + 3, "{from:?} → {address}: {reason}");
        }
    }
    Ok(())
}

#[test]
fn only_who_may_leaves_and_only_answers_come_back() -> Result<()> {
    let world = Attached::new()?;
    let outside = &world.outside;
    for address in [IpAddr::from(OUTSIDE4), OUTSIDE6.into()] {
        assert!(tcp(world.container(&A), outside, address)?, "TCP → {address}");
        assert!(udp(world.container(&A), outside, address)?, "UDP → {address}");
        assert!(pings(world.container(&A), address)?, "ping → {address}");
        assert!(!tcp(world.container(&B), outside, address)?, "B has no way out");
        assert!(!pings(world.container(&B), address)?, "B has no way out");
    }
    for address in addresses(&A) {
        assert!(!tcp(outside, world.container(&A), address)?, "outside → {address}");
        assert!(!udp(outside, world.container(&A), address)?, "outside → {address}");
        assert!(!pings(outside, address)?, "outside → {address}");
    }
    for (address, reason) in [(ASIDE4, Reason::NotUplink), (NOWHERE4, Reason::NoRoute)] {
        assert!(!pings(world.container(&A), address.into())?, "A → {address}");
        assert_eq!(world.dropped(&A, reason)?, 1, "A → {address}: {reason}");
    }
    assert!(world.dropped(&A, Reason::NotAReply)? >= 6);
    assert!(world.dropped(&B, Reason::EgressOff)? >= 4);
    Ok(())
}

/// Sends a datagram that carries a mark; whether it arrives, not whether an answer would.
fn arrives_with_mark(from: &Namespace, to: &Namespace, address: IpAddr, mark: u32) -> Result<bool> {
    let server = to.enter(|| Ok(UdpSocket::bind((any(address), PORT))?))?;
    server.set_read_timeout(Some(PATIENCE))?;
    let client = from.enter(|| Ok(UdpSocket::bind((any(address), 0))?))?;
    setsockopt(&client, sockopt::Mark, &mark)?;
    client.send_to(b"there", (address, PORT))?;
    Ok(receive(&server, &mut [0; 64])?.is_some())
}

#[test]
fn the_host_neither_reaches_nor_is_reached_but_by_its_mark() -> Result<()> {
    let world = Attached::new()?;
    for address in addresses(&A) {
        assert!(!tcp(&world.host, world.container(&A), address)?, "host → {address}");
        assert!(!pings(&world.host, address)?, "host → {address}");
        let (host, container, node) = (&world.host, world.container(&A), world::node());
        assert!(arrives_with_mark(host, container, address, node.host_mark)?, "skepd → {address}");
        assert!(!arrives_with_mark(host, container, address, node.pass_mark)?, "another mark → {address}");
    }
    assert!(world.dropped(&A, Reason::LocalProcess)? >= 4);
    assert!(!tcp(world.container(&A), &world.host, HOST4.into())?);
    assert!(world.dropped(&A, Reason::NoRoute)? > 0);
    Ok(())
}

#[test]
fn a_vip_and_the_resolver_answer_echoes() -> Result<()> {
    let world = Attached::new()?;
    with_and_without_offload(&world, |offload| {
        for address in [IpAddr::from(VIP4), VIP6.into(), OLD4.into(), DNS.into()] {
            ensure!(pings(world.container(&A), address)?, "ping {address}, offload {offload}");
        }
        for address in [IpAddr::from(VIP4), VIP6.into()] {
            ensure!(!pings(world.container(&D), address)?, "another environment's VIP {address} answers");
        }
        ensure!(!pings(world.container(&A), HIDDEN4.into())?, "a VIP of another network answers");
        Ok(())
    })
}

/// What `dig` prints, complaints and warnings included, with one blank where it has any number of them.
fn dig(asker: &Namespace, question: &str) -> Result<String> {
    let answer = asker.run(&format!("dig @{DNS} +tries=1 +timeout=2 {question}"))?;
    Ok(answer.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn dig_gets_right_answers() -> Result<()> {
    let world = Attached::new()?;
    let (vip4, vip6) = (VIP4.to_string(), VIP6.to_string());
    let reverse6 = format!("-x {vip6}");
    // The question, the status, the records of which each has to be there.
    let cases: &[(&str, &str, &[&str])] = &[
        ("api A", "NOERROR", &["api.", "IN A", &vip4]),
        ("api.internal A", "NOERROR", &["api.internal.", &vip4]),
        ("api.production.shop.internal AAAA", "NOERROR", &["IN AAAA", &vip6]),
        ("aPi.InTeRnAl A", "NOERROR", &["aPi.InTeRnAl.", &vip4]),
        ("API.internal A +noedns", "NOERROR", &["API.internal.", &vip4, "ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 0"]),
        ("api A +bufsize=4096 +nocookie", "NOERROR", &[&vip4, "EDNS: version: 0, flags:; udp: 4096"]),
        ("api A +dnssec", "NOERROR", &[&vip4, "flags: do"]),
        ("old A", "NOERROR", &["10.224.1.2"]),
        ("old AAAA", "NOERROR", &["ANSWER: 0, AUTHORITY: 1", "IN SOA", "nobody.invalid."]),
        ("api MX", "NOERROR", &["ANSWER: 0, AUTHORITY: 1", "IN SOA"]),
        ("nobody.internal A", "NXDOMAIN", &["internal. 5 IN SOA internal. nobody.invalid. 1 3600 1200 604800 5"]),
        ("nobody A", "NXDOMAIN", &["AUTHORITY: 1", "IN SOA"]),
        ("hidden A", "NXDOMAIN", &["AUTHORITY: 1"]),
        ("-x 10.224.1.1", "NOERROR", &["1.1.224.10.in-addr.arpa.", "IN PTR api.production.shop.internal."]),
        (&reverse6, "NOERROR", &["IN PTR api.production.shop.internal."]),
        ("-x 10.208.0.2", "NOERROR", &["IN PTR a.production.shop.internal."]),
        ("-x 10.208.77.77", "NXDOMAIN", &["AUTHORITY: 1"]),
        ("-x 10.224.1.3", "NXDOMAIN", &["AUTHORITY: 1"]),
    ];
    with_and_without_offload(&world, |offload| {
        for (question, status, records) in cases {
            let answer = dig(world.container(&A), question)?;
            ensure!(answer.contains(&format!("status: {status}")), "{question}, offload {offload}: {answer}");
            ensure!(answer.contains("flags: qr aa rd"), "{question}: {answer}");
            for record in *records {
                ensure!(answer.contains(record), "{question}: {record} is not in: {answer}");
            }
            for complaint in ["WARNING", "Warning", "malformed", "mismatch"] {
                ensure!(!answer.contains(complaint), "{question}: {answer}");
            }
        }
        let outside = dig(world.container(&B), "example.com A")?;
        ensure!(outside.contains("status: NXDOMAIN") && outside.contains("AUTHORITY: 0"), "{outside}");
        Ok(())
    })
}
