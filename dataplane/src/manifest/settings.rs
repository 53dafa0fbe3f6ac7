//! How Docker sets the containers up: capabilities, file systems in memory, limits of processes, the kernel's
//! parameters, names of hosts, logs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::keys::{LOGGING, ULIMIT};
use super::limits;
use super::reader::{Field, Reader, join};
use super::yaml::{Node, Value};
use crate::model::settings::{Identity, Logging, Settings, Ulimit};

/// Takes one of the service's keys, if it is one of those here.
pub(super) fn field(reader: &mut Reader<'_>, field: &Field<'_>, settings: &mut Settings, place: &str) {
    let Field { node, path, .. } = field;
    match field.key {
        "init" => settings.init = reader.flag(node, path),
        "cap_add" => settings.cap_add = capabilities(reader, node, path),
        "cap_drop" => settings.cap_drop = capabilities(reader, node, path),
        "security_opt" => settings.no_new_privileges = no_new_privileges(reader, node, path),
        "read_only" => settings.read_only = reader.flag(node, path),
        "shm_size" => settings.shm_size = limits::size(reader, node, path),
        "tmpfs" => settings.tmpfs.extend(tmpfs(reader, node, path)),
        "ulimits" => settings.ulimits = ulimits(reader, node, path, &join(place, "ulimits")),
        "group_add" => settings.group_add = texts(reader, node, path),
        "oom_score_adj" => settings.oom_score_adj = integer(reader, node, path),
        "sysctls" => settings.sysctls = pairs(reader, node, path),
        "logging" => settings.logging = logging(reader, node, path, place),
        _ => identity(reader, field, &mut settings.identity),
    }
}

fn identity(reader: &mut Reader<'_>, field: &Field<'_>, identity: &mut Identity) {
    let Field { node, path, .. } = field;
    match field.key {
        "hostname" => identity.hostname = reader.optional(node, path),
        "domainname" => identity.domainname = reader.optional(node, path),
        "extra_hosts" => identity.extra_hosts = hosts(reader, node, path),
        // A dot alone asks for no domain.
        "dns_search" => identity.search = texts(reader, node, path).into_iter().filter(|name| name != ".").collect(),
        _ => {}
    }
}

/// `KEY=value` in a list, or a mapping.
pub(super) fn pairs(reader: &mut Reader<'_>, node: &Node, path: &str) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    if let Value::Map(entries) = &node.value {
        for (key, value) in entries {
            let text = if matches!(value.value, Value::Null) { Some(String::new()) } else { reader.text(value, path) };
            pairs.extend(text.map(|text| (key.text.clone(), text)));
        }
        return pairs;
    }
    for item in reader.list(node, path, false) {
        if let Some(text) = reader.text(item, path) {
            let (key, value) = text.split_once('=').unwrap_or((&text, ""));
            pairs.insert(key.to_owned(), value.to_owned());
        }
    }
    pairs
}

/// A list, or one of them.
fn texts(reader: &mut Reader<'_>, node: &Node, path: &str) -> Vec<String> {
    let items = reader.list(node, path, true).iter();
    items.filter_map(|item| reader.text(item, path)).filter(|text| !text.is_empty()).collect()
}

fn integer<T: std::str::FromStr>(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<T> {
    let text = reader.optional(node, path)?;
    let number = text.parse().ok();
    if number.is_none() {
        reader.error(node.at, path, format!("{text:?} is no whole number that fits"), "write one");
    }
    number
}

/// Docker takes them in either case, with or without what the kernel's headers put in front.
fn capabilities(reader: &mut Reader<'_>, node: &Node, path: &str) -> BTreeSet<String> {
    let upper = texts(reader, node, path).into_iter().map(|name| name.to_ascii_uppercase());
    upper.map(|name| name.strip_prefix("CAP_").map_or(name.clone(), str::to_owned)).collect()
}

fn no_new_privileges(reader: &mut Reader<'_>, node: &Node, path: &str) -> bool {
    let mut asked = false;
    for item in reader.list(node, path, true) {
        let Some(text) = reader.text(item, path) else { continue };
        match text.replace('=', ":").as_str() {
            "no-new-privileges" | "no-new-privileges:true" => asked = true,
            "no-new-privileges:false" => asked = false,
            _ => {
                let what = format!("{text:?} changes what confines the container");
                reader.error(item.at, path, what, "remove it; no-new-privileges:true is passed on");
            }
        }
    }
    asked
}

fn tmpfs(reader: &mut Reader<'_>, node: &Node, path: &str) -> BTreeMap<String, String> {
    let mounts = texts(reader, node, path).into_iter().map(|text| match text.split_once(':') {
        Some((target, options)) => (target.to_owned(), options.to_owned()),
        None => (text, String::new()),
    });
    mounts.collect()
}

fn ulimits(reader: &mut Reader<'_>, node: &Node, path: &str, place: &str) -> BTreeMap<String, Ulimit> {
    let mut ulimits = BTreeMap::new();
    for (key, value) in reader.entries(node, path) {
        let path = join(path, &key.text);
        reader.places.insert(join(place, &key.text), key.at);
        let ulimit = match &value.value {
            Value::Map(_) => {
                let (mut soft, mut hard) = (None, None);
                for field in reader.fields(value, &path, &ULIMIT) {
                    let number = integer(reader, field.node, &field.path);
                    if field.key == "soft" { soft = number } else { hard = number }
                }
                let both = soft.zip(hard);
                if both.is_none() {
                    reader.error(value.at, &path, "it needs soft and hard", "write both, or one number for both");
                }
                both.map(|(soft, hard)| Ulimit { soft, hard })
            }
            _ => integer(reader, value, &path).map(|both| Ulimit { soft: both, hard: both }),
        };
        ulimits.extend(ulimit.map(|ulimit| (key.text.clone(), ulimit)));
    }
    ulimits
}

fn logging(reader: &mut Reader<'_>, node: &Node, path: &str, place: &str) -> Option<Logging> {
    let mut logging = Logging::default();
    for field in reader.placed(node, path, &join(place, "logging"), &LOGGING) {
        match field.key {
            "driver" => logging.driver = reader.optional(field.node, &field.path),
            _ => logging.options = pairs(reader, field.node, &field.path),
        }
    }
    (logging != Logging::default()).then_some(logging)
}

/// `NAME=ADDRESS` or `NAME:ADDRESS` in a list, or a mapping whose values may be lists.
fn hosts(reader: &mut Reader<'_>, node: &Node, path: &str) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let mut hosts: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut add = |reader: &mut Reader<'_>, item: &Node, name: &str, address: &str| {
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        match bare.parse() {
            Ok(address) => drop(hosts.entry(name.to_owned()).or_default().insert(address)),
            Err(_) if bare == "host-gateway" => {
                let remedy = "remove it; a service of this environment is reached by its name";
                reader.error(item.at, path, "the node is not reachable from a private network", remedy);
            }
            Err(_) => reader.error(item.at, path, format!("{address:?} is no address"), "write NAME=ADDRESS"),
        }
    };
    if let Value::Map(entries) = &node.value {
        for (key, value) in entries {
            for item in reader.list(value, &join(path, &key.text), true) {
                if let Some(address) = reader.text(item, path) {
                    add(reader, item, &key.text, &address);
                }
            }
        }
        return hosts;
    }
    for item in reader.list(node, path, false) {
        let Some(text) = reader.text(item, path) else { continue };
        match text.split_once(['=', ':']) {
            Some((name, address)) => add(reader, item, name, address),
            None => reader.error(item.at, path, format!("{text:?} has no address"), "write NAME=ADDRESS"),
        }
    }
    hosts
}
