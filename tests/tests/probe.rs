//! The probes themselves: they tell an answer from a refusal.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tests::load::Place;
use tests::probe::{Outcome, Protocol, Responder, probe};

#[test]
fn a_probe_tells_an_answer_from_a_refusal() -> anyhow::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
    let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
    assert!(up.success());
    let all: Vec<_> = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]
        .into_iter()
        .flat_map(|address| Protocol::ALL.map(|protocol| (protocol, address)))
        .collect();

    for (outcome, (protocol, _)) in probe(&all, |_| true)?.into_iter().zip(&all) {
        let expected = match protocol {
            Protocol::Tcp | Protocol::Udp | Protocol::ConnectedUdp => Outcome::Refused,
            Protocol::Icmp => Outcome::Answered(None),
        };
        assert_eq!(outcome, expected, "{protocol:?}");
    }
    let _responder = Responder::start(Place::default(), "me".to_owned())?;
    for (outcome, (protocol, _)) in probe(&all, |_| false)?.into_iter().zip(&all) {
        let name = (*protocol != Protocol::Icmp).then(|| "me".to_owned());
        assert_eq!(outcome, Outcome::Answered(name), "{protocol:?}");
    }
    Ok(())
}
