use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use dataplane::bpf::{self, Maps, ReasonText};
use dataplane::clock::monotonic;
use dataplane::egress;
use dataplane_ebpf::abi::{FlowKey, Identity, Reason};
use serde::Serialize;

use crate::cell::{Cell, Tone};
use crate::cli::{DropsArgs, Global};
use crate::deployment::age;
use crate::directory::Directory;
use crate::error::CtlError;
use crate::map::Record;
use crate::output::Output;
use crate::pins;
use crate::scope::Scope;

const HEADER: [&str; 7] = ["REASON", "WHO", "COUNT", "LAST", "LAST PACKET", "WHAT", "REMEDY"];

/// What was dropped of one service for one reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct DropRow {
    #[serde(flatten)]
    pub(crate) text: ReasonText,
    /// `project/environment/service`; nobody's when nothing was dropped yet, or where the firewall does not tell.
    pub(crate) who: Option<String>,
    pub(crate) environment_id: u32,
    pub(crate) service_id: u32,
    pub(crate) count: u64,
    /// How long ago the last one was.
    pub(crate) last_seconds_ago: Option<f64>,
    /// The last one, as far as it could be read.
    pub(crate) last_packet: Option<String>,
}

/// `drops`.
pub(crate) async fn list(global: &Global, args: &DropsArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    let scope = Scope::new(global)?;
    let maps = pins::open(global)?;
    let directory = Directory::read(&maps).await?;
    let mut rows = lines(&maps, &directory)?;
    match firewall(&maps).await {
        Ok(dropped) => rows.extend(dropped),
        Err(error) => output.note(&format!("What the firewall dropped is not known: {error}")),
    }
    rows.retain(|row| {
        let (project, environment) = directory.environment_key(row.environment_id).unwrap_or_default();
        scope.contains(project, environment)
    });
    let (routine, told): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| !args.all && row.text.is_routine());
    rows = told;
    if args.all {
        let counted: Vec<String> = rows.iter().map(|row| row.text.reason.clone()).collect();
        let never = Reason::ALL.iter().filter(|reason| !counted.iter().any(|name| name == reason.name()));
        rows.extend(never.map(|reason| DropRow::nobodys((*reason).into())));
    }
    if rows.is_empty() && !output.is_json() {
        output.note("Nothing was dropped.");
    } else {
        output.list(&HEADER, &rows, row)?;
    }
    if !routine.is_empty() && !output.is_json() {
        let packets: u64 = routine.iter().map(|row| row.count).sum();
        output.note(&format!(
            "Not counted here: {packets} reports of multicast groups, as every kernel sends them (--all)."
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that was dropped, the last first.
pub(crate) fn lines(maps: &Maps, directory: &Directory) -> Result<Vec<DropRow>, CtlError> {
    let mut drops = bpf::drops(maps)?;
    drops.retain(|drop| drop.packets > 0);
    drops.sort_by_key(|drop| std::cmp::Reverse(drop.last_seen));
    Ok(drops.iter().map(|drop| DropRow::new(drop, directory)).collect())
}

/// What the rules behind the programs dropped.
async fn firewall(maps: &Maps) -> Result<Vec<DropRow>, CtlError> {
    let IpAddr::V4(dns) = maps.node()?.dns.to_ip() else { return Ok(Vec::new()) };
    let dropped = egress::dropped(dns).await?;
    Ok(dropped.into_iter().map(|(text, count)| DropRow { count, ..DropRow::nobodys(text) }).collect())
}

impl DropRow {
    fn new(drop: &bpf::DropLine, directory: &Directory) -> Self {
        let Identity { env, service } = drop.identity;
        Self {
            text: drop.number.into(),
            who: Some(directory.identity(drop.identity)),
            environment_id: env,
            service_id: service,
            count: drop.packets,
            last_seconds_ago: seconds_since(drop.last_seen),
            last_packet: packet(&drop.tuple),
        }
    }

    /// Of no service that is known.
    fn nobodys(text: ReasonText) -> Self {
        Self { text, who: None, environment_id: 0, service_id: 0, count: 0, last_seconds_ago: None, last_packet: None }
    }

    /// As an entry of the map DROPS.
    pub(crate) fn record(&self) -> Record {
        let key = format!("{}/{}", self.who.as_deref().unwrap_or("-"), self.text.reason);
        Record::new(key)
            .raw_key(format!("{}/{}/{}", self.environment_id, self.service_id, self.text.reason))
            .with("count", self.count)
            .with("last_s", self.last_seconds_ago)
            .with("last_packet", self.last_packet.clone())
    }
}

fn row(drop: &DropRow) -> Vec<Cell> {
    let reason = Cell::new(&drop.text.reason).tone(if drop.count > 0 { Tone::Warn } else { Tone::Dim });
    vec![
        reason,
        Cell::or_dash(drop.who.as_ref()),
        Cell::new(drop.count),
        Cell::or_dash(drop.last_seconds_ago.map(ago)),
        Cell::or_dash(drop.last_packet.as_ref()),
        Cell::new(&drop.text.explanation),
        Cell::new(&drop.text.remedy),
    ]
}

/// [`tuple`], of a packet that could be read.
pub(crate) fn packet(key: &FlowKey) -> Option<String> {
    (*key != FlowKey::default()).then(|| tuple(key))
}

/// `tcp 10.208.0.5:41234 > 10.208.0.9:5432`.
pub(crate) fn tuple(key: &FlowKey) -> String {
    let end = |ip: IpAddr, port: u16| match u16::from_be(port) {
        0 => ip.to_string(),
        port => SocketAddr::new(ip, port).to_string(),
    };
    let source = end(key.source.to_ip(), key.source_port);
    let destination = end(key.destination.to_ip(), key.destination_port);
    format!("{} {source} > {destination}", protocol(key.protocol))
}

/// An IP protocol's name.
pub(crate) fn protocol(number: u8) -> String {
    match i32::from(number) {
        libc::IPPROTO_TCP => "tcp".to_owned(),
        libc::IPPROTO_UDP => "udp".to_owned(),
        libc::IPPROTO_ICMP => "icmp".to_owned(),
        libc::IPPROTO_ICMPV6 => "icmpv6".to_owned(),
        0 => "-".to_owned(),
        other => format!("protocol-{other}"),
    }
}

/// How long ago a moment of `CLOCK_MONOTONIC`, in nanoseconds, was; none at all for 0.
pub(crate) fn seconds_since(nanoseconds: u64) -> Option<f64> {
    // Tenths say enough.
    (nanoseconds != 0).then(|| (monotonic().saturating_sub(nanoseconds) / 100_000_000) as f64 / 10.0)
}

/// `3s ago`, `5m ago`, `2h ago`, `4d ago`.
pub(crate) fn ago(seconds: f64) -> String {
    format!("{} ago", age(Duration::from_secs(seconds as u64)))
}

#[cfg(test)]
mod tests {
    use dataplane_ebpf::abi::Addr;

    use super::*;

    #[test]
    fn a_tuple_reads_like_a_packet() {
        let ip = |text: &str| Addr::from(text.parse::<IpAddr>().unwrap());
        let mut key = FlowKey {
            source: ip("10.208.0.5"),
            destination: ip("10.208.0.9"),
            source_port: 41_234_u16.to_be(),
            destination_port: 5_432_u16.to_be(),
            protocol: 6,
            pad: [0; 3],
        };
        assert_eq!(tuple(&key), "tcp 10.208.0.5:41234 > 10.208.0.9:5432");
        (key.source, key.destination, key.protocol) = (ip("fd53::1"), ip("fd53::2"), 17);
        assert_eq!(tuple(&key), "udp [fd53::1]:41234 > [fd53::2]:5432");
    }

    #[test]
    fn times_are_rounded_for_people() {
        assert_eq!(ago(3.2), "3s ago");
        assert_eq!(ago(300.0), "5m ago");
        assert_eq!(ago(90_000.0), "25h ago");
    }
}
