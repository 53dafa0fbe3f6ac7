//! Who resolves what, and how long it takes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tests::load::{Dns, Place, run_for};

use super::screen::Screen;
use super::stage::{DNS, ENVIRONMENTS, SERVICES, Stage};

/// One question and its answer, by `dig` in the replica's network namespace.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    asker: String,
    name: String,
    /// The address, or the response code.
    expected: String,
    got: String,
}

impl Answer {
    pub(super) fn as_expected(&self) -> bool {
        self.expected == self.got
    }
}

/// Time from question to answer.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    resolver: &'static str,
    /// Questions in flight at most.
    outstanding: u16,
    /// From question to answer, on average.
    microseconds: f64,
}

/// Lets each environment's `web` ask for every service by short and full name, and for other environments' names.
pub(super) fn ask(stage: &Stage, screen: &mut Screen) -> Result<Vec<Answer>> {
    screen.section("names: who resolves what");
    screen.status("asking …");
    let mut answers = Vec::new();
    for asker in ENVIRONMENTS {
        let web = stage.replica(asker, "web")?;
        let mut row = Vec::new();
        for (service, _) in SERVICES {
            let vip = stage.replica(asker, service)?.vip()?.to_owned();
            row.push((service.to_owned(), vip.clone()));
            row.push((format!("{service}.internal"), vip.clone()));
            for other in ENVIRONMENTS {
                let expected = if other == asker { vip.clone() } else { "NXDOMAIN".to_owned() };
                row.push((format!("{service}.{}.{}.internal", other.1, other.0), expected));
            }
        }
        for (name, expected) in row {
            let dig =
                web.net(&["dig", "+noall", "+comments", "+answer", "+tries=1", "+time=2", "@10.224.0.53", &name])?;
            let asker = format!("{}/{}/web", asker.0, asker.1);
            answers.push(Answer { asker, name, expected, got: outcome(&dig) });
        }
    }
    show(&answers, screen);
    Ok(answers)
}

/// The address of an answer section, or the status.
fn outcome(dig: &str) -> String {
    let address = dig.lines().find(|line| line.contains("\tA\t")).and_then(|line| line.split_whitespace().last());
    let status = dig.split("status: ").nth(1).and_then(|rest| rest.split(',').next());
    address.or(status).unwrap_or("no answer").to_owned()
}

fn show(answers: &[Answer], screen: &mut Screen) {
    for (project, environment) in ENVIRONMENTS {
        let asker = format!("{project}/{environment}/web");
        let mine: Vec<_> = answers.iter().filter(|answer| answer.asker == asker).collect();
        let own: Vec<_> = mine
            .iter()
            .filter(|answer| !answer.name.contains('.'))
            .map(|answer| format!("{} → {}", answer.name, answer.got))
            .collect();
        let all = mine.iter().all(|answer| answer.as_expected());
        let denied = mine.iter().filter(|answer| answer.got == "NXDOMAIN").count();
        let verdict = screen.verdict(all);
        screen.line(format!("{asker:<22} {}   {denied} foreign names → NXDOMAIN   {verdict}", own.join("   ")));
        for answer in mine.iter().filter(|answer| !answer.as_expected()) {
            screen.line(format!("    {}: expected {}, got {}", answer.name, answer.expected, answer.got));
        }
    }
}

/// The kernel's answers beside those of Docker's resolver on the same engine.
pub(super) fn latency(stage: &Stage, screen: &mut Screen) -> Result<Vec<Latency>> {
    screen.section("DNS latency, mean");
    screen.status("measuring …");
    let web = stage.replica(ENVIRONMENTS[0], "web")?;
    let vip: Ipv4Addr = web.vip()?.parse().context("VIP of web")?;
    let skep = Place::inside(web.netns()?);
    let subjects = [
        ("docker", stage.docker_client()?, "127.0.0.11:53", "web", None),
        ("skep", skep, DNS, "web.internal", Some(vip)),
    ];
    let mut latencies = Vec::new();
    for outstanding in [1, 100] {
        for (resolver, place, server, name, expect) in subjects.clone() {
            let server: SocketAddr = server.parse()?;
            let make = move || Dns::new(server, name, outstanding, expect);
            let tally = run_for(place.on_core(1), Duration::from_secs(1), make)?;
            anyhow::ensure!(tally.failures == 0, "{resolver}: {:?}", tally.first_failure);
            latencies.push(Latency { resolver, outstanding, microseconds: tally.mean() / 1e3 });
        }
        if let [.., docker, skep] = latencies.as_slice() {
            screen.line(format!(
                "{outstanding:>3} in flight: Docker {:>8.1} µs   Skep {:>6.1} µs   {:.0} times faster",
                docker.microseconds,
                skep.microseconds,
                docker.microseconds / skep.microseconds
            ));
        }
    }
    Ok(latencies)
}
