//! The kernel maps, straight from their pins.

mod decode;
mod record;

use std::process::ExitCode;

use dataplane::bpf::{BpfError, Maps};
use dataplane_ebpf::abi::map;
use serde::Serialize;

use self::decode::Decoder;
pub(crate) use self::record::Record;
use crate::cell::Cell;
use crate::cli::{Global, MapArgs, MapCommand};
use crate::directory::Directory;
use crate::error::CtlError;
use crate::output::Output;
use crate::pins;

/// Every map, what it holds, and how it is called in its own documentation.
const MAPS: [(&str, &str); 16] = [
    (map::DEVICES, "veth → identity, networks, addresses"),
    (map::NETNS, "network namespace → identity, networks"),
    (map::ENDPOINTS, "address → identity, device"),
    (map::SERVICES, "environment and VIP → service, backend set"),
    (map::BACKENDS, "service, generation and slot → address"),
    (map::NAMES, "environment and name → VIPs"),
    (map::PTRS, "environment and address → name"),
    (map::GRANTS, "source, destination, protocol, port → allow or deny"),
    (map::EGRESS, "prefix outside → allow or deny"),
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
    let rows = MAPS.map(|(name, holds)| {
        let (entries, capacity) = usage(maps, name)?;
        Ok(MapRow { name, holds, entries, capacity })
    });
    let rows = rows.into_iter().collect::<Result<Vec<_>, BpfError>>()?;
    output.list(&["MAP", "ENTRIES", "CAPACITY", "HOLDS"], &rows, |row| {
        vec![Cell::new(row.name), Cell::or_dash(row.entries), Cell::or_dash(row.capacity), Cell::new(row.holds)]
    })
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

/// Entries and capacity, where the map has such.
fn usage(maps: &Maps, name: &str) -> Result<(Option<usize>, Option<usize>), BpfError> {
    macro_rules! usage {
        ($($name:path => $table:ident),* $(,)?) => {
            match name {
                $($name => Ok((Some(maps.$table.entries()?.len()), Some(maps.$table.capacity()))),)*
                map::EGRESS => Ok((Some(maps.egress_rules()?.len()), None)),
                map::NODE => Ok((Some(1), Some(1))),
                _ => Ok((None, None)),
            }
        };
    }
    usage! {
        map::DEVICES => devices,
        map::NETNS => netns,
        map::ENDPOINTS => endpoints,
        map::SERVICES => services,
        map::BACKENDS => backends,
        map::NAMES => names,
        map::PTRS => ptrs,
        map::GRANTS => grants,
        map::FLOWS => flows,
        map::BUDGETS => budgets,
        map::COUNTERS => counters,
        map::DROPS => drops,
    }
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
        assert_eq!(MAPS.len(), 16);
    }

    #[test]
    fn networks_are_bit_numbers() {
        assert_eq!(bits(0b1000_0000_0000_0101), [0, 2, 15]);
        assert_eq!(bits(1 << 63), [63]);
    }
}
