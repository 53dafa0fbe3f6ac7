//! `links`: another name for a service, whose URL the service that is linked is told as well.

use std::collections::BTreeMap;

use super::diagnostic::Place;
use super::reader::{Reader, join};
use super::service::{note_spelling, service_name};
use super::yaml::Node;
use crate::model::ServiceSpec;
use crate::model::spec::DependsOn;

/// `SERVICE` or `SERVICE:ALIAS`, each → alias → service.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, path: &str, place: &str) -> BTreeMap<String, String> {
    let mut links: BTreeMap<String, String> = BTreeMap::new();
    for item in reader.list(node, path, false) {
        let Some(text) = reader.text(item, path) else { continue };
        let (target, alias) = text.split_once(':').unwrap_or((&text, &text));
        let target = service_name(reader, item.at, path, target);
        let name = service_name(reader, item.at, path, alias);
        if let Some(name) = name.as_ref().filter(|_| target != name) {
            note_spelling(reader, item.at, path, alias, name);
        }
        let Some((target, alias)) = target.zip(name) else { continue };
        reader.places.insert(at(place, &alias), item.at);
        match links.get(&alias) {
            Some(other) if *other != target => {
                let what = format!("{alias} is the name of a link to {other} and of one to {target}");
                reader.error(item.at, path, what, "give one of them another alias: service:alias");
            }
            _ => drop(links.insert(alias, target)),
        }
    }
    links
}

fn at(place: &str, alias: &str) -> String {
    join(&join(place, "links"), alias)
}

/// What links mean beside URLs: the alias is a name of the service wherever both are, and the service comes first. Names
/// belong to networks, so that everybody there knows it by that one.
pub(super) fn settle(reader: &mut Reader<'_>, services: &mut BTreeMap<String, ServiceSpec>) {
    let links = services.iter().flat_map(|(name, service)| {
        let networks: Vec<String> = service.networks.keys().cloned().collect();
        service.links.iter().map(move |(alias, target)| (name.clone(), alias.clone(), target.clone(), networks.clone()))
    });
    for (name, alias, target, networks) in links.collect::<Vec<_>>() {
        let said = reader.places.get(&at(&join("services", &name), &alias)).copied().unwrap_or(Place::START);
        if name == target {
            continue;
        }
        let Some(linked) = services.get_mut(&target) else { continue };
        let shared = linked.networks.iter_mut().filter(|(network, _)| alias != target && networks.contains(network));
        for (network, attachment) in shared {
            attachment.aliases.insert(alias.clone());
            reader.places.entry(format!("services.{target}.networks.{network}.aliases")).or_insert(said);
        }
        if let Some(service) = services.get_mut(&name) {
            service.depends_on.entry(target).or_insert(DependsOn::ServiceStarted);
            reader.places.entry(format!("services.{name}.depends_on")).or_insert(said);
        }
    }
}
