//! Skep beside a bare veth pair, a bare tunnel, Docker's user-defined bridge, Docker's resolver and docker compose, on one
//! machine in one run.
//!
//! Subjects take turns (A B C A B C …), client and server share one core, and what counts is the ratio: then figures repeat
//! on other machines. `cargo xtask bench` runs it; `--rounds N` and `--seconds S` say how long, `--only CASE/SUBJECT` what.

#[path = "network/across.rs"]
mod across;
#[path = "network/report.rs"]
mod report;
#[path = "network/scale.rs"]
mod scale;
#[path = "network/subject.rs"]
mod subject;
#[path = "../tests/wireguard/stage.rs"]
#[expect(dead_code, reason = "a test needs more of it")]
mod tunnel;
#[path = "network/up.rs"]
mod up;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use report::{Metric, Sample};
use subject::{Resolver, Stage, Subject};
use tests::load::{Connects, Datagrams, Dns, KeepAlive, Server, Service, Stream, Tally, run_for};

const PORT: u16 = 7777;
/// What ratios are taken of.
const BASELINES: [&str; 6] =
    ["bare-veth", "docker-bridge", "docker-dns", "docker-compose", "10-entries", across::BASELINE];

/// A way to measure a path.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    metric: Metric,
    service: Service,
    run: fn(&Subject, Duration, SocketAddr) -> Result<Tally>,
}

const CASES: [Case; 4] = [
    Case {
        name: "tcp-rr",
        metric: Metric { name: "transactions", unit: "/s" },
        service: Service::EchoSerial,
        run: |subject, length, to| run_for(subject.client.clone(), length, move || KeepAlive::new(to)),
    },
    Case {
        name: "connect-close",
        metric: Metric { name: "connections", unit: "/s" },
        service: Service::EchoOnce,
        run: |subject, length, to| run_for(subject.client.clone(), length, move || Connects::new(to)),
    },
    Case {
        name: "tcp-stream",
        metric: Metric { name: "throughput", unit: "B/s" },
        service: Service::Sink,
        run: |subject, length, to| run_for(subject.client.clone(), length, move || Stream::new(to)),
    },
    Case {
        name: "udp-rr",
        metric: Metric { name: "transactions", unit: "/s" },
        service: Service::Datagrams,
        run: |subject, length, to| run_for(subject.client.clone(), length, move || Datagrams::connected(to)),
    },
];

/// How long to measure, and what.
struct Effort {
    rounds: u32,
    length: Duration,
    /// Part of `case/subject`; all of them have the empty one.
    only: String,
}

impl Effort {
    fn wants(&self, case: &str, subject: &str) -> bool {
        format!("{case}/{subject}").contains(&self.only)
    }

    /// Whether there is something to be measured of these subjects.
    fn wants_any(&self, subjects: &[&str]) -> bool {
        CASES.iter().any(|case| subjects.iter().any(|subject| self.wants(case.name, subject)))
    }
}

fn effort() -> Result<Effort> {
    let mut effort = Effort { rounds: 7, length: Duration::from_millis(700), only: String::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--rounds", Some(value)) => effort.rounds = value.parse()?,
            ("--seconds", Some(value)) => effort.length = Duration::from_secs_f64(value.parse()?),
            ("--only", Some(value)) => effort.only = value,
            // cargo adds this one by itself, without a value.
            ("--bench", None) => {}
            (other, _) => {
                anyhow::bail!("unknown argument {other}: --rounds N, --seconds S and --only CASE/SUBJECT are known")
            }
        }
    }
    Ok(effort)
}

fn main() -> Result<()> {
    let effort = effort()?;
    eprintln!("setting up a bare veth pair, a Docker bridge and a Skep environment …");
    let mut stage = Stage::set()?;
    let mut samples = Vec::new();
    for round in 1..=effort.rounds {
        eprintln!("round {round} of {}", effort.rounds);
        for case in CASES {
            for subject in &stage.subjects {
                samples.extend(path(case, subject, "same-node", subject.name, &effort)?);
            }
        }
        for resolver in &stage.resolvers {
            samples.extend(names(resolver, "dns", resolver.name, &effort)?);
        }
    }
    up::measure(&stage.node, &effort, &mut samples)?;
    scale::measure(&mut stage, &effort, &mut samples)?;
    drop(stage);
    across::measure(&effort, &mut samples)?;
    let rows = report::rows(&samples, &BASELINES);
    report::print(&rows);
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/results.json");
    report::write(&rows, &results)?;
    eprintln!("written to target/bench/results.json");
    Ok(())
}

/// One figure of one path. A failed exchange fails the benchmark: nothing is measured on a broken path.
fn path(
    case: Case,
    subject: &Subject,
    group: &'static str,
    name: &'static str,
    effort: &Effort,
) -> Result<Option<Sample>> {
    if !effort.wants(case.name, name) {
        return Ok(None);
    }
    let _server = Server::start(subject.server.clone(), PORT, case.service)?;
    let tally = (case.run)(subject, effort.length, (subject.target, PORT).into())?;
    ensure!(
        tally.failures == 0,
        "{} of {name}: {} failures, the first: {:?}",
        case.name,
        tally.failures,
        tally.first_failure
    );
    Ok(Some(Sample { group, case: case.name, subject: name, metric: case.metric, value: tally.rate() }))
}

/// Latency of one question at a time, and of a hundred.
fn names(resolver: &Resolver, group: &'static str, name: &'static str, effort: &Effort) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for (case, outstanding) in [("one-at-a-time", 1), ("100-outstanding", 100)] {
        if !effort.wants(case, name) {
            continue;
        }
        let (server, question) = (resolver.server, resolver.question);
        let make = move || Dns::new(server, question, outstanding, None);
        let tally = run_for(resolver.client.clone(), effort.length, make)?;
        ensure!(tally.failures == 0, "{name}: {} failures, the first: {:?}", tally.failures, tally.first_failure);
        let metric = Metric { name: "latency", unit: "µs" };
        samples.push(Sample { group, case, subject: name, metric, value: tally.mean() / 1e3 });
    }
    Ok(samples)
}
