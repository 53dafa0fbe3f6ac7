//! `container_name`: on one host, and without replicas, the name that others find a service by beside its own.

use std::collections::BTreeMap;

use super::diagnostic::Place;
use super::reader::Reader;
use super::service::{Reading, note_spelling};
use super::yaml::Node;
use crate::model::name::normalise;

/// What a service's container would be called.
pub(super) struct Alias {
    at: Place,
    path: String,
    said: String,
}

/// Reads it; [`None`] if nothing is said.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<Alias> {
    let said = reader.optional(node, path)?;
    Some(Alias { at: node.at, path: path.to_owned(), said })
}

/// Makes it a name of the service in its networks, unless somebody else has it there.
pub(super) fn settle(reader: &mut Reader<'_>, readings: &mut BTreeMap<String, Reading>) {
    let named: Vec<(String, Alias)> =
        readings.iter_mut().filter_map(|(service, reading)| Some((service.clone(), reading.alias.take()?))).collect();
    for (service, Alias { at, path, said }) in named {
        let Ok(alias) = normalise(&said) else {
            reader.note(at, &path, format!("has no effect: {said:?} is no name in a network"), "");
            continue;
        };
        let has = |(name, reading): (&String, &Reading)| {
            *name == alias || reading.spec.networks.values().any(|network| network.aliases.contains(&alias))
        };
        if let Some((other, _)) = readings.iter().find(|(name, reading)| **name != service && has((name, reading))) {
            reader.note(at, &path, format!("has no effect: {alias} is a name of service {other}"), "");
            continue;
        }
        if alias == service {
            continue;
        }
        note_spelling(reader, at, &path, &said, &alias);
        if let Some(reading) = readings.get_mut(&service) {
            for network in reading.spec.networks.values_mut() {
                network.aliases.insert(alias.clone());
            }
        }
    }
}
