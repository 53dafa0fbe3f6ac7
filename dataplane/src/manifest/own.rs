//! Skep's own keys of a service: `x-skep`.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::duration;
use super::egress;
use super::health::{self, Health};
use super::keys::X_SKEP;
use super::reader::{Field, Reader, join};
use super::shell::words;
use super::yaml::Node;
use crate::model::ServiceSpec;
use crate::model::rollout::{Millis, Probe};
use crate::model::spec::{Affinity, ServiceType};

/// Where a service of type web listens that does not say it.
const WEB_PORT: u16 = 8080;

/// What was said there.
#[derive(Default)]
pub(super) struct Own {
    affinity: Affinity,
    egress: Option<BTreeSet<IpNet>>,
    kind: Option<ServiceType>,
    password: bool,
    port: Option<u16>,
    health: Option<Health>,
    start_timeout: Option<Millis>,
    drain_timeout: Option<Millis>,
    release: Option<Vec<String>>,
    schedule: Option<String>,
}

/// Reads it.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, path: &str, place: &str) -> Own {
    let place = join(place, "x-skep");
    let mut own = Own::default();
    for field in reader.placed(node, path, &place, &X_SKEP) {
        let Field { node, path, .. } = &field;
        match field.key {
            "affinity" => own.affinity = affinity(reader, node, path),
            "egress" => own.egress = egress::egress(reader, node, path),
            "type" => own.kind = kind(reader, node, path),
            "password" => own.password = reader.flag(node, path),
            "port" => own.port = port(reader, node, path),
            "health" => own.health = health::health(reader, node, path, &join(&place, "health")),
            "start_timeout" => own.start_timeout = duration::optional(reader, node, path),
            "drain_timeout" => own.drain_timeout = duration::optional(reader, node, path),
            "release" => own.release = words(reader, node, path),
            // One that a variable left empty must not make a service that always runs.
            _ => own.schedule = reader.given(node, path),
        }
    }
    own
}

impl Own {
    /// Puts it into the spec, and the defaults of what was not said.
    pub(super) fn settle(self, spec: &mut ServiceSpec) {
        spec.kind = self.kind.unwrap_or(spec.kind);
        spec.port = self.port.or_else(|| (spec.kind == ServiceType::Web).then_some(WEB_PORT));
        spec.password = self.password;
        spec.start_timeout = self.start_timeout.unwrap_or(spec.start_timeout);
        spec.drain_timeout = self.drain_timeout.unwrap_or(spec.drain_timeout);
        spec.release = self.release;
        spec.egress = self.egress;
        spec.affinity = self.affinity;
        spec.schedule = self.schedule;
        spec.probe = match self.health {
            Some(Health::Off) => None,
            Some(Health::Ask(probe)) => Some(probe),
            None => by_default(spec),
        };
    }
}

/// That the port accepts is asked of a service that names one, unless a check in the container says more.
fn by_default(spec: &ServiceSpec) -> Option<Probe> {
    let checked = spec.healthcheck.as_ref().is_some_and(|check| !check.is_disabled());
    (spec.port.is_some() && spec.schedule.is_none() && !checked).then(Probe::default)
}

fn kind(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<ServiceType> {
    match reader.text(node, path)?.as_str() {
        "web" => Some(ServiceType::Web),
        "database" => Some(ServiceType::Database),
        "cache" => Some(ServiceType::Cache),
        "service" => Some(ServiceType::Service),
        other => {
            let what = format!("{other:?} is no type of service");
            reader.error(node.at, path, what, "use web, database, cache or service");
            None
        }
    }
}

fn affinity(reader: &mut Reader<'_>, node: &Node, path: &str) -> Affinity {
    match reader.optional(node, path).as_deref() {
        None | Some("none") => Affinity::None,
        Some("client") => Affinity::Client,
        Some(other) => {
            reader.error(node.at, path, format!("{other:?} is no affinity"), "use client or none");
            Affinity::None
        }
    }
}

fn port(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<u16> {
    let text = reader.optional(node, path)?;
    let port = text.parse().ok();
    if port.is_none() {
        reader.error(node.at, path, format!("{text:?} is no port"), "write one from 1 to 65535");
    }
    port
}
