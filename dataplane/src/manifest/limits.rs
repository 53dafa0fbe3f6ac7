//! What a replica may take and what is kept free for it: `deploy.resources`, and the older keys that say the same.

use std::collections::BTreeMap;

use super::keys::{RESOURCES, RESOURCES_LIMITS, RESOURCES_RESERVATIONS};
use super::reader::{Field, Reader, join};
use super::yaml::Node;
use crate::model::placement::octets;
use crate::model::{Limits, Reserved};

/// Compose's units of sizes, which are powers of 1024 however they are written.
const UNITS: [(&str, u64); 13] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kb", 1 << 10),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1 << 20),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gb", 1 << 30),
    ("gib", 1 << 30),
    ("t", 1 << 40),
    ("tb", 1 << 40),
];

/// The engine takes no less.
const MEMORY_MIN: u64 = 6 << 20;

/// Billionths of a processor.
const CPU: f64 = 1e9;

/// Limits and reservations as they are read, each with the key that said it first.
#[derive(Default)]
pub(super) struct Said {
    limits: Limits,
    reserved: Reserved,
    by: BTreeMap<&'static str, &'static str>,
}

impl Said {
    /// `deploy.resources`.
    pub(super) fn resources(&mut self, reader: &mut Reader<'_>, node: &Node, path: &str, place: &str) {
        for field in reader.placed(node, path, &join(place, "resources"), &RESOURCES) {
            let place = join(&join(place, "resources"), field.key);
            if field.key == "reservations" {
                self.reservations(reader, field.node, &field.path, &place);
                continue;
            }
            for field in reader.placed(field.node, &field.path, &place, &RESOURCES_LIMITS) {
                let Field { node, path, .. } = &field;
                match field.key {
                    "memory" => self.memory(reader, node, path, "deploy.resources.limits.memory"),
                    "cpus" => self.cpus(reader, node, path, "deploy.resources.limits.cpus"),
                    _ => self.pids(reader, node, path, "deploy.resources.limits.pids"),
                }
            }
        }
    }

    fn reservations(&mut self, reader: &mut Reader<'_>, node: &Node, path: &str, place: &str) {
        for field in reader.placed(node, path, place, &RESOURCES_RESERVATIONS) {
            let Field { node, path, .. } = &field;
            match field.key {
                "memory" => self.reserved_memory(reader, node, path, "deploy.resources.reservations.memory"),
                _ => self.reserved.nano_cpus = processors(reader, node, path).unwrap_or(0),
            }
        }
    }

    /// Bytes that are kept free.
    pub(super) fn reserved_memory(&mut self, reader: &mut Reader<'_>, node: &Node, path: &str, key: &'static str) {
        let Some(memory) = size(reader, node, path) else { return };
        let before = std::mem::replace(&mut self.reserved.memory, memory);
        self.agrees(reader, node, path, ("reserved memory", key), before == 0 || before == memory);
    }

    /// Bytes, with or without a unit.
    pub(super) fn memory(&mut self, reader: &mut Reader<'_>, node: &Node, path: &str, key: &'static str) {
        let Some(memory) = size(reader, node, path) else { return };
        if memory < MEMORY_MIN {
            let what = format!("{} are too little memory for a container", octets(memory));
            return reader.error(node.at, path, what, "give it 6M or more, which is the least that Docker takes");
        }
        let before = self.limits.memory.replace(memory);
        self.agrees(reader, node, path, ("memory", key), before.is_none_or(|before| before == memory));
    }

    /// Processors, perhaps a part of one.
    pub(super) fn cpus(&mut self, reader: &mut Reader<'_>, node: &Node, path: &str, key: &'static str) {
        let Some(nano) = processors(reader, node, path) else { return };
        let before = self.limits.nano_cpus.replace(nano);
        self.agrees(reader, node, path, ("cpus", key), before.is_none_or(|before| before == nano));
    }

    /// Processes and threads.
    pub(super) fn pids(&mut self, reader: &mut Reader<'_>, node: &Node, path: &str, key: &'static str) {
        let Some(text) = reader.optional(node, path) else { return };
        let pids = match text.parse() {
            Ok(-1 | 0) => return,
            Ok(pids) => u32::try_from(pids).ok(),
            Err(_) => None,
        };
        let Some(pids) = pids else {
            let remedy = "write a number from 1, or -1 for no limit";
            return reader.error(node.at, path, format!("{text:?} is no number of processes"), remedy);
        };
        let before = self.limits.pids.replace(pids);
        self.agrees(reader, node, path, ("pids", key), before.is_none_or(|before| before == pids));
    }

    fn agrees(
        &mut self,
        reader: &mut Reader<'_>,
        node: &Node,
        path: &str,
        (limit, key): (&'static str, &'static str),
        same: bool,
    ) {
        if let Some(other) = self.by.insert(limit, key)
            && !same
        {
            reader.error(node.at, path, format!("it differs from what {other} says"), "keep one of them");
        }
    }

    /// All that was said.
    pub(super) fn finish(self) -> (Limits, Reserved) {
        (self.limits, self.reserved)
    }
}

/// Octets, with or without a unit; [`None`] also for 0, Compose's way to say nothing.
pub(super) fn size(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<u64> {
    let text = reader.optional(node, path)?;
    let size = bytes(&text);
    if size.is_none() {
        let remedy = "write a number with a unit (b, k, m, g), as in 512m or 1.5g";
        reader.error(node.at, path, format!("{text:?} is no size"), remedy);
    }
    size.filter(|size| *size > 0)
}

/// Billionths of processors; [`None`] also for 0.
fn processors(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<u64> {
    let text = reader.optional(node, path)?;
    match text.parse::<f64>() {
        Ok(0.0) => None,
        // What a node may have at most keeps the product far from where a float is not exact any more.
        Ok(cpus) if cpus * CPU >= 1.0 && cpus <= 65_536.0 => Some((cpus * CPU).round() as u64),
        _ => {
            let remedy = "write a number, as in 2 or 0.5";
            reader.error(node.at, path, format!("{text:?} is no number of processors"), remedy);
            None
        }
    }
}

/// A size in bytes, rounded down.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let (number, unit) = lower.split_at(lower.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(lower.len()));
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let number = number.trim_end();
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*scale);
    }
    let parts: f64 = number.parse().ok().filter(|parts: &f64| parts.is_finite() && *parts >= 0.0)?;
    let bytes = parts * *scale as f64;
    // Up to here a float tells each byte from the next.
    (bytes < (1_u64 << 53) as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_mean_what_compose_means() {
        let sizes = [
            ("0", Some(0)),
            ("1048576", Some(1 << 20)),
            ("8m", Some(8 << 20)),
            ("8M", Some(8 << 20)),
            ("64MB", Some(64 << 20)),
            ("64MiB", Some(64 << 20)),
            ("512k", Some(512 << 10)),
            ("1.5g", Some(3 << 29)),
            ("1 gb", Some(1 << 30)),
            ("2t", Some(2 << 40)),
            ("b", None),
            ("", None),
            ("8x", None),
            ("-1m", None),
            ("1e400g", None),
            ("nan", None),
            ("inf", None),
            ("99999999999g", None),
        ];
        for (text, size) in sizes {
            assert_eq!(bytes(text), size, "{text:?}");
        }
    }
}
