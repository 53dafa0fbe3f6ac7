//! What a spec must keep to, whoever sent it.

use std::collections::BTreeMap;

use super::error::Refusal;
use crate::agent::tables::{full_name, wire_name};
use crate::model::name::normalise;
use crate::model::spec::NETWORKS_MAX;
use crate::model::{EnvironmentKey, EnvironmentSpec, ServiceKey, ServiceSpec};

/// Most replicas of one service: a backend set counts them in 16 bits, and slots must stay few.
const REPLICAS_MAX: u32 = 1000;

/// Refuses a spec that cannot be.
pub(super) fn validate(key: &EnvironmentKey, spec: &EnvironmentSpec) -> Result<(), Refusal> {
    if spec.key != *key {
        return Err(Refusal::bad(
            format!("the body is of {}, the path of {key}", spec.key),
            "name the same project and environment in both",
        ));
    }
    is_name("project", &key.project)?;
    is_name("environment", &key.environment)?;
    if spec.networks.len() > NETWORKS_MAX {
        return Err(Refusal::bad(
            format!("{} networks in {key}", spec.networks.len()),
            format!("an environment may have {NETWORKS_MAX}"),
        ));
    }
    let mut names = BTreeMap::new();
    for (service, definition) in &spec.services {
        is_name("service", service)?;
        let key = ServiceKey { environment: key.clone(), service: service.clone() };
        if wire_name(&full_name(&key)).is_none() {
            return Err(Refusal::bad(
                format!("the name {} is too long", full_name(&key)),
                "shorten project, environment or service: 128 octets are the most that resolve",
            ));
        }
        validate_service(service, definition, spec)?;
        own_names(service, definition, spec, &mut names)?;
    }
    Ok(())
}

fn validate_service(name: &str, service: &ServiceSpec, spec: &EnvironmentSpec) -> Result<(), Refusal> {
    let refuse = |what: String, remedy: &str| Err(Refusal::bad(format!("service {name}: {what}"), remedy));
    if service.image.trim().is_empty() {
        return refuse("image is empty".into(), "name an image");
    }
    if service.replicas > REPLICAS_MAX {
        return refuse(format!("{} replicas", service.replicas), &format!("{REPLICAS_MAX} are the most"));
    }
    if service.networks.is_empty() {
        return refuse("it is in no network".into(), "name one, or leave `networks` out to be in `default`");
    }
    if let Some(network) = service.networks.keys().find(|network| !spec.networks.contains_key(*network)) {
        return refuse(format!("network {network} is not among `networks`"), "declare it there");
    }
    if let Some(needed) = service.depends_on.keys().find(|needed| !spec.services.contains_key(*needed)) {
        return refuse(format!("depends_on names {needed}, which is no service"), "correct the name");
    }
    if let Some(cycle) = cycle(name, spec) {
        return refuse(format!("depends_on leads back to itself: {}", cycle.join(" → ")), "break the circle");
    }
    for mount in &service.volumes {
        if !spec.volumes.contains(&mount.volume) {
            return refuse(format!("volume {} is not among `volumes`", mount.volume), "declare it there");
        }
        // The name becomes part of Docker's, and a path in its place would mount a directory of the host.
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if mount.volume.is_empty() || !mount.volume.chars().all(legal) {
            return refuse(format!("volume {:?}", mount.volume), "use letters, digits, '-', '_' or '.'");
        }
        if !mount.target.starts_with('/') || mount.target.split('/').any(|part| part == "..") {
            return refuse(format!("volume target {:?}", mount.target), "give an absolute path without `..`");
        }
    }
    match service.environment.keys().find(|key| key.is_empty() || key.contains(['=', '\0'])) {
        Some(key) => refuse(format!("environment variable {key:?}"), "a name holds no `=`"),
        None => Ok(()),
    }
}

/// A service's own name is nobody else's; an alias may be shared only across networks that are apart.
fn own_names(
    service: &str,
    definition: &ServiceSpec,
    spec: &EnvironmentSpec,
    names: &mut BTreeMap<String, String>,
) -> Result<(), Refusal> {
    for attachment in definition.networks.values() {
        for alias in attachment.aliases.iter().filter(|alias| *alias != service) {
            is_name("alias", alias)?;
            let other = spec.services.get_key_value(alias).map(|(other, _)| other.clone());
            let other = other.or_else(|| names.insert(alias.clone(), service.to_owned()).filter(|o| o != service));
            if let Some(other) = other {
                return Err(Refusal::bad(
                    format!("service {service}: the alias {alias} is already a name of {other}"),
                    "give each name to one service",
                ));
            }
        }
    }
    Ok(())
}

/// The services from `start` back to itself.
fn cycle(start: &str, spec: &EnvironmentSpec) -> Option<Vec<String>> {
    let mut paths = vec![vec![start.to_owned()]];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(path) = paths.pop() {
        let Some(service) = path.last().and_then(|name| spec.services.get(name)) else { continue };
        for next in service.depends_on.keys() {
            let mut longer = path.clone();
            longer.push(next.clone());
            if next == start {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                paths.push(longer);
            }
        }
    }
    None
}

fn is_name(what: &str, name: &str) -> Result<(), Refusal> {
    match normalise(name) {
        Ok(normal) if normal == name => Ok(()),
        Ok(normal) => Err(Refusal::bad(format!("{what} {name:?} is not normalised"), format!("write {normal:?}"))),
        Err(error) => Err(Refusal::bad(format!("{what}: {error}"), "use lower-case letters, digits and '-'")),
    }
}
