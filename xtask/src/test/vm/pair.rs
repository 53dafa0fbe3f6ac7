//! `cargo xtask test pair`: two whole machines with WireGuard in their kernels.
//!
//! The first brings two environments up, becomes a cluster and lets the second in, whose clock is an hour ahead. Replicas
//! spread; every name, address and virtual address is asked from either machine, and what must not be reached all the
//! time; a version is deployed, keys are changed and a daemon is killed under load. Then the second loses its power, and
//! comes back with a clock that is an hour behind. What went over the cable is searched for anything that can be read.

use std::fs;
use std::path::Path;
use std::process::Command;

use ::tests::command;
use anyhow::{Context as _, Result, ensure};

use super::kernel::Kernel;
use super::machine::{Content, Facts, Machines, Network, Setting};
use crate::shell::{as_root_again, pass};

/// The kernels of a short run, and those that a long one adds: today's stable one on both; the oldest with the newest.
const PAIRS: [[&str; 2]; 2] = [["6.12", "6.12"], ["6.1", "7"]];
const CONTENT: Content =
    Content { stages: include_str!("pair/stages.sh"), compose: include_str!("pair/compose.yaml"), files: &[] };
/// What servers and clients say, which nobody else may read.
const SAID: [&[u8]; 2] = [b"pong\n", b"said-in-plain-text"];
/// An hour, in seconds.
const HOUR: i64 = 3_600;

/// Set-up, package, image, two guests for each pair of kernels.
pub(in crate::test) fn run(yes: bool, series: &[String], long: bool) -> Result<()> {
    if let Some(mut again) = as_root_again()? {
        return pass(&mut again);
    }
    let pairs = match series {
        [] => PAIRS[..if long { 2 } else { 1 }].to_vec(),
        [one] => vec![[one.as_str(); 2]],
        [first, second] => vec![[first.as_str(), second]],
        _ => anyhow::bail!("--kernel twice at most: one for each machine"),
    };
    for pair in pairs {
        let (machines, kernels) = Machines::of("pair", &CONTENT, yes, &pair)?;
        let [first, second] = &kernels[..] else { unreachable!("two kernels") };
        let releases = format!("{} and {}", first.release(), second.release());
        println!("Booting {releases} …");
        two(&machines, [first, second]).with_context(|| format!("kernels {releases}"))?;
        println!("{releases}: all of it is so.");
    }
    Ok(())
}

fn two(machines: &Machines, kernels: [&Kernel; 2]) -> Result<()> {
    let sockets = tempfile::tempdir()?;
    let [one, two] = ["1", "2"].map(|name| sockets.path().join(name));
    let capture = sockets.path().join("capture");
    let cables = [
        Network { ends: [one.clone(), two.clone()], mac: "52:54:00:00:00:01", capture: Some(capture.clone()) },
        Network { ends: [two, one], mac: "52:54:00:00:00:02", capture: None },
    ];
    let first = machines.machine(kernels[0], "pair-1")?;
    let second = machines.machine(kernels[1], "pair-2")?;
    let mut facts = Facts::default();

    let mut one = first.boot("first", &plugged("skep.node=1", &cables[0], 0))?;
    facts.hear(&mut one, "token")?;
    let token = facts.word(&["token"], 0).context("no token")?;
    let joins = format!("skep.node=2 skep.token={token}");
    let mut two = second.boot("first", &plugged(&joins, &cables[1], HOUR))?;
    facts.hear(&mut two, "cut")?;
    two.kill()?;
    facts.hear(&mut one, "alone")?;
    let mut two = second.boot("cut", &plugged("skep.node=2", &cables[1], -HOUR))?;
    facts.hear(&mut one, "done")?;
    facts.hear(&mut two, "done")?;

    must_be_whole(&facts)?;
    one.kill()?;
    unreadable(&capture)
}

fn plugged<'s>(parameters: &'s str, cable: &'s Network, ahead: i64) -> Setting<'s> {
    Setting { parameters, network: Some(cable), ahead }
}

/// A stage that says nothing has shown nothing.
fn must_be_whole(facts: &Facts) -> Result<()> {
    ensure!(facts.last(&["tunnel"]).is_some_and(|kinds| kinds == ["kernel"]), "not the kernel's WireGuard");
    let asked = ["deployment", "keys", "daemon", "alone", "second", "back"];
    for (what, environment) in asked.iter().flat_map(|what| ["production", "staging"].map(|of| (*what, of))) {
        let (count, lost) = (facts.number::<u32>(&[what, environment], 0), facts.number(&[what, environment], 2));
        ensure!(
            count.is_some_and(|count| count > 0) && lost == Some(0),
            "{what} {environment}: {count:?}, lost {lost:?}"
        );
    }
    Ok(())
}

/// Fails if somebody between the machines could have read what was said.
fn unreadable(capture: &Path) -> Result<()> {
    let packets = fs::read(capture).context("what went over the cable")?;
    let tunnelled =
        command::run(Command::new("tcpdump").args(["-n", "--count", "-r"]).arg(capture).arg("udp port 51820"))?;
    println!("  {} octets went over the cable, in the tunnel: {tunnelled}", packets.len());
    for said in SAID {
        ensure!(
            !packets.windows(said.len()).any(|seen| seen == said),
            "{:?} went over the cable for everybody to read",
            String::from_utf8_lossy(said)
        );
    }
    Ok(())
}
