//! A `mongo` that is to have no password: without one it is what people know, and not every file is made for more.

use crate::model::name::ZONE;
use crate::model::{EnvironmentSpec, ServiceSpec};

/// Options of `mongod` that say so, or that want a key file beside a password.
const WITHOUT: [&str; 4] = ["--configsvr", "--noauth", "--replSet", "--shardsvr"];

/// Begins its URLs.
const SCHEME: &str = "mongodb://";

/// Whether a `mongo` would not start with a password, or is addressed without one.
pub(super) fn is_open(environment: &EnvironmentSpec, name: &str, service: &ServiceSpec) -> bool {
    let mut words = commands(service).flat_map(|word| word.split_whitespace());
    if words.any(|word| WITHOUT.contains(&word.split('=').next().unwrap_or(word))) {
        return true;
    }
    let aliases = service.networks.values().flat_map(|attachment| &attachment.aliases).map(String::as_str);
    let names: Vec<&str> = aliases.chain([name]).collect();
    let mut texts = environment.services.values().flat_map(|other| other.environment.values().chain(commands(other)));
    texts.any(|text| addresses(text, &names))
}

fn commands(service: &ServiceSpec) -> impl Iterator<Item = &String> {
    service.entrypoint.iter().chain(&service.command).flatten()
}

/// Whether there is a URL without a password in a text, of a host that is one of `names`.
fn addresses(text: &str, names: &[&str]) -> bool {
    text.split(SCHEME).skip(1).any(|rest| {
        let authority = rest.split(|c: char| c.is_whitespace() || "/?\"'".contains(c)).next().unwrap_or_default();
        !authority.contains('@') && authority.split(',').any(|host| names.contains(&short(host).as_str()))
    })
}

/// A host without its port and Skep's zone.
fn short(host: &str) -> String {
    let host = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    host.strip_suffix(ZONE).and_then(|name| name.strip_suffix('.')).unwrap_or(&host).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_password_is_found_wherever_it_stands() {
        let names = ["mongo", "docs"];
        for text in [
            "mongodb://mongo",
            "mongodb://mongo:27017/shop",
            "mongodb://Mongo.internal/shop?x=a@b",
            "mongodb://other:27017,docs:27017/shop",
            "--url mongodb://docs --verbose",
            "mongodb://u:p@mongo/ \"mongodb://mongo\"",
        ] {
            assert!(addresses(text, &names), "{text}");
        }
        for text in
            ["", "mongo", "mongodb://", "mongodb://u:p@mongo/shop", "mongodb://mongo2/x", "mongodb://mongo.example/x"]
        {
            assert!(!addresses(text, &names), "{text}");
        }
    }
}
