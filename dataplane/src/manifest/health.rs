//! How a replica is known to be well: Compose's `healthcheck`, and what the node asks by `x-skep.health`.

use super::duration;
use super::keys::{HEALTHCHECK, X_SKEP_HEALTH};
use super::reader::{Field, Reader, join};
use super::yaml::{Node, Value};
use crate::model::rollout::{HealthCheck, Probe};

/// What `x-skep.health` says.
pub(super) enum Health {
    /// Nothing is to be asked.
    Off,
    /// Ask this.
    Ask(Probe),
}

/// Compose's `healthcheck`; [`None`] if it says nothing. Zero means what it means to Docker: the image's own.
pub(super) fn check(reader: &mut Reader<'_>, node: &Node, path: &str, place: &str) -> Option<HealthCheck> {
    let mut check = HealthCheck::default();
    let mut disable = false;
    for field in reader.placed(node, path, &join(place, "healthcheck"), &HEALTHCHECK) {
        let Field { node, path, .. } = &field;
        let mut duration = || duration::optional(reader, node, path).filter(|millis| *millis > 0);
        match field.key {
            "interval" => check.interval = duration(),
            "timeout" => check.timeout = duration(),
            "start_period" => check.start_period = duration(),
            "start_interval" => check.start_interval = duration(),
            "retries" => check.retries = reader.number(node, path).filter(|retries| *retries > 0),
            "disable" => disable = reader.flag(node, path),
            _ => check.test = test(reader, node, path),
        }
    }
    if disable {
        // As with Compose, it wins over what an alias brought along.
        check = HealthCheck { test: vec!["NONE".to_owned()], ..HealthCheck::default() };
    }
    (check != HealthCheck::default()).then_some(check)
}

/// A string is run by the container's shell; a list says itself by whom.
fn test(reader: &mut Reader<'_>, node: &Node, path: &str) -> Vec<String> {
    if let Value::List(items) = &node.value {
        return items.iter().filter_map(|item| reader.text(item, path)).collect();
    }
    match reader.optional(node, path) {
        None => Vec::new(),
        Some(text) if text == "NONE" => {
            reader.error(node.at, path, "as a string, NONE is a command", "write disable: true, or [NONE]");
            Vec::new()
        }
        Some(command) => vec!["CMD-SHELL".to_owned(), command],
    }
}

/// `x-skep.health`: a path, `none`, or a mapping.
pub(super) fn health(reader: &mut Reader<'_>, node: &Node, path: &str, place: &str) -> Option<Health> {
    if !matches!(node.value, Value::Map(_)) {
        return Some(match reader.optional(node, path)?.as_str() {
            "none" => Health::Off,
            get => Health::Ask(Probe { path: Some(get.to_owned()), ..Probe::default() }),
        });
    }
    let mut probe = Probe::default();
    for field in reader.placed(node, path, place, &X_SKEP_HEALTH) {
        let Field { node, path, .. } = &field;
        match field.key {
            "path" => probe.path = reader.optional(node, path),
            "interval" => duration::read(reader, node, path, &mut probe.interval),
            "timeout" => duration::read(reader, node, path, &mut probe.timeout),
            _ => probe.retries = reader.number(node, path).unwrap_or(probe.retries),
        }
    }
    Some(Health::Ask(probe))
}
