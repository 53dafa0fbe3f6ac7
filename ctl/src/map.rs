//! The kernel maps, straight from their pins.

mod decode;
mod record;

use std::process::ExitCode;

use dataplane::bpf::{MapUsage, Maps};
use dataplane_ebpf::abi::map;
use serde::Serialize;

use self::decode::Decoder;
pub(crate) use self::record::Record;
use crate::cell::{Cell, Tone};
use crate::cli::{Global, MapArgs, MapCommand};
use crate::directory::Directory;
use crate::error::CtlError;
use crate::output::Output;
use crate::pins;

/// Every map, what it holds, and how it is called in its own documentation.
const MAPS: [(&str, &str); 18] = [
    (map::DEVICES, "veth → identity, networks, addresses"),
    (map::NETNS, "network namespace → identity, networks"),
    (map::ENDPOINTS, "address → identity, device"),
    (map::NODES, "another node → tunnel device, MTU"),
    (map::SERVICES, "environment and VIP → service, backend set"),
    (map::BACKENDS, "service, generation and slot → address"),
    (map::NAMES, "environment and name → VIPs"),
    (map::PTRS, "environment and address → name"),
    (map::GRANTS, "source, destination, protocol, port → allow or deny"),
    (map::EGRESS, "prefix outside → allow, deny, or allow who lists it"),
    (map::EGRESS_LISTS, "service and prefix outside → that it lists it"),
    (map::FLOWS, "flows that crossed a boundary"),
    (map::BUDGETS, "veth → new boundary flows left"),
    (map::SOCKETS, "socket → VIPs and backends it was told"),
    (map::COUNTERS, "identity → packets, octets, connects, answers"),
    (map::DROPS, "identity and reason → how many, the last one"),
    (map::EVENTS, "drops and connects as they happen"),
    (map::NODE, "this node's configuration"),
];

/// A line of `map list`.
#[derive(Serialize)]
struct MapRow {
    name: &'static str,
    holds: &'static str,
    entries: Option<usize>,
    capacity: Option<usize>,
    /// Of the capacity.
    percent: Option<usize>,
    /// What to do about a map that is nearly full.
    remedy: Option<&'static str>,
}

/// `map …`.
pub(crate) async fn run(global: &Global, args: &MapArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    // A name that is none is wrong with or without maps.
    let wanted = match &args.command {
        MapCommand::List => None,
        MapCommand::Dump { name } | MapCommand::Get { name, .. } => Some(by_name(name)?),
    };
    let maps = pins::open(global)?;
    match (&args.command, wanted) {
        (MapCommand::Get { key, .. }, Some(name)) => get(&maps, name, key, output).await,
        (_, Some(name)) => dump(&maps, name, output).await,
        (_, None) => list(&maps, output),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn list(maps: &Maps, output: &mut Output) -> Result<(), CtlError> {
    let usage = maps.usage()?;
    let rows = MAPS.map(|(name, holds)| {
        let usage = usage.iter().find(|usage| usage.name == name);
        let (entries, capacity) = (usage.map(|usage| usage.entries), usage.map(|usage| usage.capacity));
        let (percent, remedy) = (usage.map(MapUsage::percent), usage.and_then(MapUsage::remedy));
        MapRow { name, holds, entries, capacity, percent, remedy }
    });
    output.list(&["MAP", "ENTRIES", "CAPACITY", "USED", "HOLDS"], &rows, |row| {
        let tone = if row.remedy.is_some() { Tone::Warn } else { Tone::Plain };
        vec![
            Cell::new(row.name),
            Cell::or_dash(row.entries),
            Cell::or_dash(row.capacity),
            Cell::or_dash(row.percent.map(|percent| format!("{percent} %"))).tone(tone),
            Cell::new(row.holds),
        ]
    })?;
    for row in &rows {
        if let (Some(remedy), Some(percent)) = (row.remedy, row.percent) {
            output.note(&format!("warning: {} is {percent} % full: {remedy}", row.name));
        }
    }
    Ok(())
}

async fn dump(maps: &Maps, name: &'static str, output: &mut Output) -> Result<(), CtlError> {
    let records = decoder(maps).await?.records(maps, name)?;
    let header: Vec<String> = records.first().map(Record::header).unwrap_or_default();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    if records.is_empty() && !output.is_json() {
        output.note(&format!("{name} is empty."));
        return Ok(());
    }
    output.list(&header, &records, Record::cells)
}

async fn get(maps: &Maps, name: &'static str, key: &str, output: &mut Output) -> Result<(), CtlError> {
    let records = decoder(maps).await?.records(maps, name)?;
    let found = records.into_iter().find(|record| record.has_key(key));
    let record = found.ok_or_else(|| CtlError::NoEntry { map: name.to_owned(), key: key.to_owned() })?;
    if output.is_json() { output.json(&record) } else { record.lines().iter().try_for_each(|line| output.line(line)) }
}

async fn decoder(maps: &Maps) -> Result<Decoder, CtlError> {
    Ok(Decoder::new(Directory::read(maps).await?))
}

fn by_name(name: &str) -> Result<&'static str, CtlError> {
    let found = MAPS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(known, _)| *known).ok_or_else(|| CtlError::NoMap { name: name.to_owned() })
}

/// The numbers of the bits that are set.
pub(crate) fn bits(mask: u64) -> Vec<u32> {
    (0..u64::BITS).filter(|bit| mask >> bit & 1 == 1).collect()
}

/// As `ip link` writes it.
pub(crate) fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_map_of_the_abi_is_known() {
        assert_eq!(by_name("services").ok(), Some(map::SERVICES));
        assert!(by_name("NONE").is_err());
        assert_eq!(MAPS.len(), 18);
    }

    #[test]
    fn networks_are_bit_numbers() {
        assert_eq!(bits(0b1000_0000_0000_0101), [0, 2, 15]);
        assert_eq!(bits(1 << 63), [63]);
    }
}
