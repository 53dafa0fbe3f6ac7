//! Every service to every service, by every protocol, family and way of naming it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use tests::probe::{Answer, Outcome, Protocol, ask, probe};

use crate::bed::{Bed, DNS, Replica};
use crate::model::{self, Service};

/// How the source names the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Method {
    /// By the address of its second replica.
    Address,
    /// By its virtual address.
    Vip,
    /// By its name, in every form that fits.
    Name,
}

/// One question of the matrix; services by their place in the list.
#[derive(Debug, Clone, Copy)]
struct Cell {
    source: usize,
    destination: usize,
    protocol: Protocol,
    ipv6: bool,
    method: Method,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Expected {
    Reached,
    /// The name does not exist.
    NoName,
    /// The socket is told at once.
    Denied,
    /// The packet is counted and gone.
    Dropped,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Got {
    Probed(Outcome),
    NoName,
    /// What is wrong with the answer about the name.
    BadName(String),
}

impl Cell {
    /// From the declared services alone. Without the socket programs no virtual address is ever translated, and they
    /// leave a datagram to a replica's own address to the veth.
    fn expected(&self, services: &[Service], sockets: bool) -> Expected {
        let reaches = services[self.source].reaches(&services[self.destination]);
        let left_to_veth = self.protocol == Protocol::Udp && self.method == Method::Address;
        let packets_only = self.protocol == Protocol::Icmp || left_to_veth || !sockets;
        match (reaches, self.method) {
            (false, Method::Name) => Expected::NoName,
            (false, _) if packets_only => Expected::Dropped,
            (false, _) => Expected::Denied,
            (true, Method::Vip | Method::Name) if packets_only && self.protocol != Protocol::Icmp => Expected::Dropped,
            (true, _) => Expected::Reached,
        }
    }

    fn matches(&self, services: &[Service], expected: Expected, got: &Got) -> bool {
        let destination = &services[self.destination];
        match (expected, got) {
            (Expected::Reached, Got::Probed(Outcome::Answered(None))) => self.protocol == Protocol::Icmp,
            (Expected::Reached, Got::Probed(Outcome::Answered(Some(by)))) => match self.method {
                Method::Address => *by == format!("{destination}.2"),
                Method::Vip | Method::Name => (1..=2).any(|number| *by == format!("{destination}.{number}")),
            },
            (Expected::NoName, Got::NoName)
            | (Expected::Denied, Got::Probed(Outcome::Denied))
            | (Expected::Dropped, Got::Probed(Outcome::Silent)) => true,
            _ => false,
        }
    }

    fn describe(&self, services: &[Service]) -> String {
        let family = if self.ipv6 { "IPv6" } else { "IPv4" };
        let (source, destination) = (services[self.source], services[self.destination]);
        format!("{source} → {destination} {:?} {family} by {:?}", self.protocol, self.method)
    }
}

/// What `source` must use to reach the destination of `cell`.
fn target(bed: &Bed, cell: &Cell) -> Result<IpAddr, Got> {
    let vip = bed.vip(cell.destination, cell.ipv6);
    match cell.method {
        Method::Address => Ok(bed.replica(cell.destination, 2).address(cell.ipv6)),
        Method::Vip => Ok(vip),
        Method::Name => {
            let names = bed.services[cell.destination].names_for(&bed.services[cell.source]);
            let mut answers: Vec<_> = names.iter().map(|name| ask(DNS.into(), name, cell.ipv6)).collect();
            let same = answers.iter().all(|answer| matches!((answer, &answers[0]), (Ok(a), Ok(b)) if a == b));
            match answers.swap_remove(0) {
                Ok(Answer::NoName) if same => Err(Got::NoName),
                Ok(Answer::Addresses(addresses)) if same && addresses == [vip] => Ok(vip),
                Ok(answer) => Err(Got::BadName(format!("{names:?}: the first one is {answer}, wanted {vip}"))),
                Err(error) => Err(Got::BadName(format!("{names:?}: {error}"))),
            }
        }
    }
}

/// All cells of one source, those of a protocol and family at a time.
fn probe_from(bed: &Bed, source: &Replica) -> anyhow::Result<Vec<(Cell, Got)>> {
    let mut results = Vec::new();
    for protocol in Protocol::ALL {
        for ipv6 in [false, true] {
            let (mut cells, mut probes) = (Vec::new(), Vec::new());
            for method in [Method::Address, Method::Vip, Method::Name] {
                for destination in 0..bed.services.len() {
                    let cell = Cell { source: source.service, destination, protocol, ipv6, method };
                    match target(bed, &cell) {
                        Ok(to) => {
                            cells.push(cell);
                            probes.push((protocol, to));
                        }
                        Err(got) => results.push((cell, got)),
                    }
                }
            }
            let before = bed.blocked(source)?;
            let blocked = |probes: usize| bed.blocked(source).is_ok_and(|now| now - before >= probes as u64);
            let outcomes = probe(&probes, blocked)?;
            results.extend(cells.into_iter().zip(outcomes.into_iter().map(Got::Probed)));
            let unanswered = results.iter().rev().take(probes.len()).filter(|(_, got)| is_unanswered(got)).count();
            let counted = bed.blocked(source)? - before;
            ensure!(
                counted >= unanswered as u64,
                "{} {protocol:?}: {unanswered} probes were blocked, {counted} drops counted",
                bed.services[source.service]
            );
        }
    }
    Ok(results)
}

fn is_unanswered(got: &Got) -> bool {
    matches!(got, Got::Probed(Outcome::Silent | Outcome::Denied))
}

fn probe_all(bed: &Bed) -> anyhow::Result<Vec<(Cell, Got)>> {
    std::thread::scope(|scope| {
        let sources = bed.replicas.iter().filter(|replica| replica.number == 1);
        let threads: Vec<_> = sources
            .map(|source| {
                scope.spawn(move || {
                    source.place.enter()?;
                    probe_from(bed, source)
                })
            })
            .collect();
        let mut results = Vec::new();
        for thread in threads {
            results.extend(thread.join().map_err(|_| anyhow::anyhow!("a prober panicked"))??);
        }
        Ok(results)
    })
}

/// Compares every cell, and wants for every blocked one an allowed one beside it, from the same source and to the same
/// destination: silence alone proves nothing.
fn judge(bed: &Bed, sockets: bool, results: &[(Cell, Got)]) -> Vec<String> {
    let reached: Vec<_> = results
        .iter()
        .filter(|(_, got)| matches!(got, Got::Probed(Outcome::Answered(_))))
        .map(|(cell, _)| cell)
        .collect();
    let beside = |cell: &Cell, same: fn(&Cell) -> usize| {
        reached.iter().any(|c| (same(c), c.protocol, c.ipv6) == (same(cell), cell.protocol, cell.ipv6))
    };
    let mut wrong = Vec::new();
    for (cell, got) in results {
        let expected = cell.expected(&bed.services, sockets);
        let what = cell.describe(&bed.services);
        if !cell.matches(&bed.services, expected, got) {
            wrong.push(format!("{what}: expected {expected:?}, got {got:?}"));
        } else if !beside(cell, |c| c.source) || !beside(cell, |c| c.destination) {
            wrong.push(format!("{what}: no allowed probe beside it was answered"));
        }
    }
    wrong
}

/// A line for each protocol and family, a column for each method.
fn print(title: &str, bed: &Bed, sockets: bool, results: &[(Cell, Got)]) {
    let mut counts: BTreeMap<_, BTreeMap<_, BTreeMap<_, usize>>> = BTreeMap::new();
    for (cell, _) in results {
        let row = counts.entry((cell.protocol, cell.ipv6)).or_default();
        *row.entry(cell.method).or_default().entry(cell.expected(&bed.services, sockets)).or_default() += 1;
    }
    println!("\n{title}: {} cells", results.len());
    println!("{:24}{:28}{:28}{:28}", "", "by address", "by VIP", "by name");
    for ((protocol, ipv6), row) in counts {
        let columns: String = row
            .values()
            .map(|column| {
                let parts: Vec<_> = column.iter().map(|(expected, count)| format!("{count} {expected:?}")).collect();
                format!("{:28}", parts.join(", "))
            })
            .collect();
        println!("{:18}{:6}{columns}", format!("{protocol:?}"), if ipv6 { "IPv6" } else { "IPv4" });
    }
    println!("dropped: {}", bed.drops_line());
}

fn run(title: &str, bed: &Bed, sockets: bool) -> anyhow::Result<()> {
    let results = probe_all(bed)?;
    let services = bed.services.len();
    let all = services * services * Protocol::ALL.len() * 2 * 3;
    ensure!(results.len() == all, "{} cells instead of {all}", results.len());
    print(title, bed, sockets, &results);
    let wrong = judge(bed, sockets, &results);
    let shown: Vec<_> = wrong.iter().take(40).map(String::as_str).collect();
    ensure!(wrong.is_empty(), "{} of {all} cells are wrong:\n{}", wrong.len(), shown.join("\n"));
    Ok(())
}

/// 2 projects × 2 environments × 3 services: every ordered pair, itself included (its other replica).
#[test]
fn a_service_reaches_exactly_those_of_its_environment_that_share_a_network() -> anyhow::Result<()> {
    let bed = Bed::new(model::services(), 2)?;
    let _responders = bed.respond()?;
    run("sockets and packets", &bed, true)?;
    // What a raw socket, or a socket of a namespace inside the container, meets: no socket program knows it.
    bed.forget_sockets().context("taking the namespaces out of the map")?;
    run("packets alone", &bed, false)
}
