//! Who reaches whom: every pair, with what was expected.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tests::load::Place;

use super::screen::Screen;
use super::stage::{ENVIRONMENTS, SERVICES, Stage};

/// How long a connection that should not come about may try.
const PATIENCE: Duration = Duration::from_millis(700);

/// One pair.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    from: String,
    to: String,
    /// `vip` or `address`.
    by: &'static str,
    expected: bool,
    got: bool,
    /// How it failed.
    error: Option<String>,
}

impl Cell {
    pub(super) fn as_expected(&self) -> bool {
        self.expected == self.got
    }
}

struct Target {
    environment: (&'static str, &'static str),
    name: String,
    by: &'static str,
    address: SocketAddr,
}

/// Connects from everywhere to every service, by VIP and by address, IPv4 and IPv6.
pub(super) fn probe(stage: &Stage, screen: &mut Screen) -> Result<Vec<Cell>> {
    screen.section("reach: who connects to whom (TCP, VIP and address, IPv4 and IPv6)");
    screen.status("connecting …");
    let targets = targets(stage)?;
    let mut cells = Vec::new();
    for (from, environment, place) in sources(stage)? {
        let row: Vec<Cell> = thread::scope(|scope| {
            let probes: Vec<_> = targets
                .iter()
                .map(|target| {
                    let (place, from) = (place.clone(), from.clone());
                    scope.spawn(move || cell(from, environment, &place, target))
                })
                .collect();
            probes
                .into_iter()
                .map(|probe| probe.join().map_err(|_| anyhow::anyhow!("a probe panicked")))
                .collect::<Result<_>>()
        })?;
        show(&from, &row, screen);
        cells.extend(row);
    }
    Ok(cells)
}

type Source = (String, Option<(&'static str, &'static str)>, Place);

fn sources(stage: &Stage) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for environment in ENVIRONMENTS {
        let netns = stage.replica(environment, "web")?.netns()?;
        let name = format!("{}/{}/web", environment.0, environment.1);
        sources.push((name, Some(environment), Place::inside(netns)));
    }
    let of = Place::inside;
    sources.push(("a Docker container".to_owned(), None, stage.docker_client()?));
    sources.push(("the host".to_owned(), None, of(stage.node.machine().netns()?)));
    sources.push(("a LAN neighbour".to_owned(), None, of(stage.neighbour.netns()?)));
    let node = stage.node.address4();
    stage.neighbour.shell(&format!("ip route replace 10.192.0.0/10 via {node}"))?;
    Ok(sources)
}

fn targets(stage: &Stage) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for environment in ENVIRONMENTS {
        for (service, port) in SERVICES {
            let replica = stage.replica(environment, service)?;
            let addresses = [
                ("vip", replica.vip()?),
                ("vip", replica.vip6()?),
                ("address", replica.address()?),
                ("address", replica.address6()?),
            ];
            for (by, address) in addresses {
                let ip: IpAddr = address.parse().with_context(|| format!("address {address:?}"))?;
                let name = format!("{}/{}/{service}", environment.0, environment.1);
                targets.push(Target { environment, name, by, address: (ip, port).into() });
            }
        }
    }
    Ok(targets)
}

fn cell(from: String, environment: Option<(&str, &str)>, place: &Place, target: &Target) -> Cell {
    let outcome = place.enter().and_then(|()| TcpStream::connect_timeout(&target.address, PATIENCE));
    let error = outcome.err().map(|error| match error.kind() {
        ErrorKind::TimedOut => "dropped".to_owned(),
        _ => error.to_string(),
    });
    let expected = environment == Some(target.environment);
    Cell { from, to: target.name.clone(), by: target.by, expected, got: error.is_none(), error }
}

fn show(from: &str, row: &[Cell], screen: &mut Screen) {
    let mut columns = Vec::new();
    for (project, environment) in ENVIRONMENTS {
        let mine = row.iter().filter(|cell| cell.to.starts_with(&format!("{project}/{environment}/")));
        let (reached, all) = mine.fold((0, 0), |(reached, all), cell| (reached + u32::from(cell.got), all + 1));
        columns.push(format!("{project}/{environment} {reached:>2} of {all}"));
    }
    let verdict = screen.verdict(row.iter().all(Cell::as_expected));
    screen.line(format!("{from:<22} {}   {verdict}", columns.join("   ")));
    for cell in row.iter().filter(|cell| !cell.as_expected()) {
        let error = cell.error.as_deref().unwrap_or("connected");
        screen.line(format!(
            "    {} by {}: expected {}: {error}",
            cell.to,
            cell.by,
            if cell.expected { "a connection" } else { "none" }
        ));
    }
}
