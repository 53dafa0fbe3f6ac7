//! Ten seconds of requests and queries while skepd is killed and started again.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tests::load::{Client, Dns, PATIENCE, Place, Tally, run};

use super::screen::Screen;
use super::stage::{ENVIRONMENTS, Stage};

/// How long the load runs, when skepd dies in it, and when it is started again.
const LENGTH: Duration = Duration::from_secs(10);
const KILL: Duration = Duration::from_secs(3);
const START: Duration = Duration::from_secs(6);

/// What one kind of load saw.
#[derive(Debug, Serialize)]
pub(super) struct Load {
    what: &'static str,
    requests: u64,
    failures: u64,
    slowest_milliseconds: f64,
    first_failure: Option<String>,
}

impl Load {
    pub(super) fn as_expected(&self) -> bool {
        self.failures == 0 && self.requests > 0
    }

    fn new(what: &'static str, tally: Tally) -> Self {
        Self {
            what,
            requests: tally.exchanges,
            failures: tally.failures,
            slowest_milliseconds: tally.slowest.as_secs_f64() * 1e3,
            first_failure: tally.first_failure,
        }
    }
}

/// Keeps HTTP requests, PostgreSQL queries and name look-ups going while skepd is killed with SIGKILL and started again.
pub(super) fn watch(stage: &Stage, screen: &mut Screen) -> Result<Vec<Load>> {
    screen.section("ten seconds of load; skepd gets SIGKILL after three and is started again after six");
    let web = stage.replica(ENVIRONMENTS[0], "web")?;
    let place = Place::inside(web.netns()?);
    let vip = |service| -> Result<IpAddr> {
        stage.replica(ENVIRONMENTS[0], service)?.vip()?.parse().with_context(|| format!("VIP of {service}"))
    };
    let (http, dns): (SocketAddr, SocketAddr) = ((vip("web")?, 8080).into(), super::stage::DNS.parse()?);
    let requests = run(place.clone(), move || Ok(Http(http)));
    let lookups = run(place, move || Dns::new(dns, "postgres.internal", 1, None));
    // psql itself, a new one for each query: its name look-up, its connection, its answer.
    let query = "while :; do timeout 5 psql -h postgres -U postgres -tAc 'select 42' 2>&1 || echo failed; done";
    let psql = web.spawn("psql", &["sh", "-c", query])?;
    let begin = Instant::now();
    screen.status("load runs …");
    wait_until(begin + KILL);
    stage.node.kill_skepd()?;
    screen.line(format!("{:>4.1} s  SIGKILL to skepd", begin.elapsed().as_secs_f64()));
    wait_until(begin + START);
    stage.node.start_skepd()?;
    screen.line(format!("{:>4.1} s  skepd is back", begin.elapsed().as_secs_f64()));
    wait_until(begin + LENGTH);
    let loads = vec![
        Load::new("HTTP requests through the VIP", requests.stop()?),
        Load::new("name look-ups", lookups.stop()?),
        queries(&psql.log()?),
    ];
    drop(psql);
    for load in &loads {
        screen.line(line(load, screen.verdict(load.as_expected())));
    }
    Ok(loads)
}

/// The plan of the demo is a timetable: these waits are its content, not a wait for an event.
fn wait_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}

/// Counts what psql said.
fn queries(log: &str) -> Load {
    let good = log.lines().filter(|line| *line == "42").count();
    let bad = log.lines().find(|line| !line.is_empty() && *line != "42");
    let failures = log.lines().filter(|line| *line == "failed").count();
    Load {
        what: "PostgreSQL queries by psql",
        requests: good as u64,
        failures: failures as u64,
        slowest_milliseconds: 0.0,
        first_failure: bad.map(str::to_owned),
    }
}

fn line(load: &Load, verdict: &str) -> String {
    let mut line = format!("{:<32} {:>7} requests   {:>3} failures", load.what, load.requests, load.failures);
    if load.slowest_milliseconds > 0.0 {
        let _infallible = write!(line, "   slowest {:>6.1} ms", load.slowest_milliseconds);
    }
    if let Some(failure) = &load.first_failure {
        let _infallible = write!(line, "   {failure}");
    }
    format!("{line}   {verdict}")
}

/// An HTTP request over a connection of its own.
struct Http(SocketAddr);

impl Client for Http {
    fn exchange(&mut self) -> io::Result<u64> {
        let mut stream = TcpStream::connect_timeout(&self.0, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        if answer.starts_with(b"HTTP/1.0 200") {
            Ok(1)
        } else {
            Err(io::Error::other(format!(
                "not a 200: {:?}",
                String::from_utf8_lossy(answer.get(..40).unwrap_or(&answer))
            )))
        }
    }
}
