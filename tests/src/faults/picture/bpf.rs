//! `bpftool`: every pin (and with `find` what is written down beside them), what the pinned maps hold, and what is attached to devices.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Names, Picture, array, only};
use crate::node::Node;

/// Path, tab, what `bpftool` shows; for each pin. Then the same with what each map holds, after a blank.
const SCRIPT: &str = r#"
cd /sys/fs/bpf
for pin in $(find . -mindepth 2 -type f | sort); do
    case $pin in */links/*) kind=link ;; */programs/*) kind=prog ;; *) kind=map ;; esac
    # Where there is no link to a device, the pin is of the program that its filter runs.
    bpftool $kind show pinned "$pin" >/dev/null 2>&1 || kind=prog
    printf '%s\t%s\t' "$kind" "${pin#./}"
    bpftool -j $kind show pinned "$pin"
    echo
done
for pin in $(find . -mindepth 2 -type f '(' HOLDING ')'); do
    printf 'holds\t%s\t' "${pin##*/}"
    bpftool -j map dump pinned "$pin"
    echo
done
for text in $(find . -mindepth 2 -type l | sort); do
    printf 'text\t%s\t"%s"\n' "${text#./}" "$(readlink "$text")"
done
printf 'net\t\t'
bpftool -j net
"#;

/// A field of a key or a value: what it is, and octets.
type Field = (&'static str, Kind, usize);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// An integer of the machine's byte order.
    Number,
    /// An address in network byte order; of 16 octets it may be v4-mapped.
    Address,
    /// Shown as octets.
    Octets,
    /// A name in DNS wire format or text, up to the first zero after it.
    Text,
    /// An index of a device.
    Device,
    /// A cookie of a network namespace.
    Cookie,
    /// Neither of interest nor stable.
    Skipped,
}
use Kind::{Address, Cookie, Device, Number, Octets, Skipped, Text};

/// The maps that say who may do what, with their layout as `abi/` documents it.
const MAPS: [(&str, &[Field], &[Field]); 11] = [
    (
        "NODE",
        &[("", Skipped, 4)],
        &[
            ("config", Octets, 144),
            ("uplinks", Octets, 32),
            ("marks", Octets, 12),
            ("epoch", Skipped, 4),
            ("node", Number, 4),
        ],
    ),
    (
        "DEVICES",
        &[("", Device, 4)],
        &[
            ("networks", Number, 8),
            ("env", Number, 4),
            ("service", Number, 4),
            ("", Address, 16),
            ("", Address, 4),
            ("flags", Number, 4),
            ("mac", Octets, 6),
            ("host mac", Octets, 6),
        ],
    ),
    (
        "NETNS",
        &[("", Cookie, 8)],
        &[
            ("networks", Number, 8),
            ("env", Number, 4),
            ("service", Number, 4),
            ("", Address, 16),
            ("", Address, 4),
            ("flags", Number, 4),
        ],
    ),
    (
        "ENDPOINTS",
        &[("", Address, 16)],
        &[
            ("networks", Number, 8),
            ("env", Number, 4),
            ("service", Number, 4),
            ("node", Number, 4),
            ("", Device, 4),
            ("mac", Octets, 6),
        ],
    ),
    ("NODES", &[("node", Number, 4)], &[("", Device, 4), ("mtu", Number, 4)]),
    (
        "SERVICES",
        &[("env", Number, 4), ("", Address, 16)],
        &[("", Skipped, 8), ("networks", Number, 8), ("service", Number, 4), ("flags", Number, 4)],
    ),
    (
        "NAMES",
        &[("env", Number, 4), ("", Text, 128)],
        &[("networks", Number, 8), ("", Address, 16), ("", Address, 4), ("port", Number, 4)],
    ),
    ("PTRS", &[("env", Number, 4), ("", Address, 16)], &[("networks", Number, 8), ("", Text, 128)]),
    ("GRANTS", &[("", Octets, 20)], &[("", Octets, 8)]),
    ("EGRESS", &[("length", Number, 4), ("", Address, 16)], &[("", Octets, 8)]),
    (
        "EGRESS_LISTS",
        &[("length", Number, 4), ("service", Number, 4), ("list", Number, 4), ("", Address, 16)],
        &[("", Octets, 8)],
    ),
];

pub(super) fn read(node: &Node, picture: &mut Picture, names: &Names) -> Result<()> {
    let dumped = MAPS.iter().map(|(name, ..)| *name).chain(["BACKENDS", "BUDGETS", "COUNTERS", "DROPS"]);
    let names_of = dumped.map(|name| format!("-name {name}")).collect::<Vec<_>>().join(" -o ");
    let text = node.machine().shell(&SCRIPT.replace("HOLDING", &names_of))?;
    let mut shown = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut parts = line.splitn(3, '\t');
        let (kind, path, json) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let json = json.with_context(|| format!("not a line of the script: {line}"))?;
        let value: Value = serde_json::from_str(json).with_context(|| format!("{kind} {path:?}: {json}"))?;
        shown.push((kind, path.unwrap_or_default(), value));
    }
    pins(&shown, picture, names)?;
    let holds = |map: &str| {
        let found = shown.iter().filter(|(kind, path, _)| *kind == "holds" && *path == map);
        found.flat_map(|(.., value)| array(value)).map(entry).collect::<Result<Vec<_>>>()
    };
    for (map, key, value) in MAPS {
        for (key_octets, octets) in holds(map)? {
            let line = format!("{map} {}: {}", decode(key, &key_octets, names), decode(value, &octets, names));
            picture.add(line);
        }
    }
    backends(&holds("SERVICES")?, &holds("BACKENDS")?, picture);
    for (key, _) in holds("BUDGETS")? {
        let index = number(&key);
        if !names.devices.contains_key(&index) {
            picture.add(format!("BUDGETS of device {index}, which is not there"));
        }
    }
    // Counters come and go with traffic; of a service that is gone none may be left.
    let known: BTreeSet<Vec<u8>> =
        holds("SERVICES")?.iter().map(|(key, value)| [&key[..4], &value[16..20]].concat()).collect();
    for map in ["COUNTERS", "DROPS"] {
        for (key, _) in holds(map)? {
            if key[..8] != [0; 8] && !known.contains(&key[..8]) {
                picture.add(format!(
                    "{map} of service {} in {}, which is not there",
                    number(&key[4..8]),
                    number(&key[..4])
                ));
            }
        }
    }
    Ok(())
}

/// The path of a pin, with the name of the device whose index it ends in.
fn name(path: &str, names: &Names) -> String {
    match path.rsplit_once('-').and_then(|(rest, index)| Some((rest, index.parse().ok()?))) {
        Some((rest, index)) => format!("{rest}-{}", names.device(index)),
        None => path.to_owned(),
    }
}

/// Programs by name and tag, maps by shape, links by what they join.
fn pins(shown: &[(&str, &str, Value)], picture: &mut Picture, names: &Names) -> Result<()> {
    let mut programs = BTreeMap::new();
    for (kind, path, value) in shown {
        let value = value.as_array().map_or(value, |all| all.first().unwrap_or(value));
        match *kind {
            "prog" => {
                let line = only(value, &["type", "name", "tag"]);
                programs.insert(value["id"].as_u64(), line.clone());
                picture.add(format!("program {}: {line}", name(path, names)));
            }
            "map" => picture.add(format!(
                "map {path}: {}",
                only(value, &["type", "name", "bytes_key", "bytes_value", "max_entries"])
            )),
            "text" => picture.add(format!("text {path}: {value}")),
            _ => {}
        }
    }
    // A filter has the id of its program under another name.
    let program = |value: &Value| {
        let id = value["prog_id"].as_u64().or(value["id"].as_u64());
        programs.get(&id).cloned().unwrap_or("no pinned program".into())
    };
    for (kind, path, value) in shown.iter().filter(|(kind, ..)| *kind == "link") {
        ensure!(value.is_object(), "{kind} {path}: {value}");
        let path = name(path, names);
        let at = value["ifindex"].as_u64().map_or(String::new(), |index| format!(" at {}", names.device(index)));
        picture.add(format!("link {path}: {}{at}, {}", only(value, &["type", "attach_type"]), program(value)));
    }
    for net in shown.iter().filter(|(kind, ..)| *kind == "net").flat_map(|(.., value)| array(value)) {
        for attached in ["xdp", "tc", "flow_dissector"].into_iter().flat_map(|part| array(&net[part])) {
            picture.add(format!("attached: {}, {}", only(attached, &["devname", "kind", "name"]), program(attached)));
        }
    }
    Ok(())
}

/// The current set of each service; of others that they are still there.
fn backends(services: &[(Vec<u8>, Vec<u8>)], backends: &[(Vec<u8>, Vec<u8>)], picture: &mut Picture) {
    let mut current: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for (_, value) in services {
        let (word, service) = (number(&value[..8]), number(&value[16..20]));
        let count = word >> 16 & 0xffff;
        current.insert((service, word >> 32), count);
        let of = format!("BACKENDS of service {service}");
        let mut addresses: Vec<String> = backends
            .iter()
            .filter(|(key, _)| {
                number(&key[..4]) == service && number(&key[4..8]) == word >> 32 && number(&key[8..12]) < count
            })
            .map(|(_, value)| {
                format!("{} {} on {}", address(&value[..16]), address(&value[16..20]), number(&value[20..24]))
            })
            .collect();
        addresses.sort();
        picture.add(format!("{of}: {}", addresses.join(", ")));
    }
    for (key, _) in backends {
        let (service, generation, slot) = (number(&key[..4]), number(&key[4..8]), number(&key[8..12]));
        if current.get(&(service, generation)).is_none_or(|count| slot >= *count) {
            picture.lingering.insert(format!("BACKENDS of service {service}: {slot} of generation {generation}"));
        }
    }
}

/// Key and value of what `bpftool map dump` prints; the value of the first CPU where each has its own.
fn entry(entry: &Value) -> Result<(Vec<u8>, Vec<u8>)> {
    let value = entry.get("value").unwrap_or(&entry["values"][0]["value"]);
    Ok((octets(&entry["key"])?, octets(value)?))
}

/// `["0x0a", …]`; a plain number where the map is an array with BTF.
fn octets(value: &Value) -> Result<Vec<u8>> {
    let one = |octet: &Value| {
        let digits = octet.as_str().and_then(|text| text.strip_prefix("0x"));
        u8::from_str_radix(digits.with_context(|| format!("not an octet: {octet}"))?, 16).context("not an octet")
    };
    array(value).map(one).collect()
}

fn decode(fields: &[Field], octets: &[u8], names: &Names) -> String {
    let mut rest = octets;
    let mut shown = Vec::new();
    for (name, kind, length) in fields {
        let Some((field, after)) = rest.split_at_checked(*length) else {
            return format!("{octets:02x?}, shorter than it should be");
        };
        rest = after;
        let value = match kind {
            Number => number(field).to_string(),
            Address => address(field),
            Octets => field.iter().map(|octet| format!("{octet:02x}")).collect(),
            Text => {
                let end = field.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
                field[..end].escape_ascii().to_string()
            }
            Device => names.device(number(field)),
            Cookie => {
                names.cookies.get(&number(field)).map_or_else(|| format!("cookie {}", number(field)), Clone::clone)
            }
            Skipped => continue,
        };
        shown.push(if name.is_empty() { value } else { format!("{name} {value}") });
    }
    shown.join(" ")
}

fn number(octets: &[u8]) -> u64 {
    let mut word = [0; 8];
    if cfg!(target_endian = "little") {
        word[..octets.len()].copy_from_slice(octets);
    } else {
        word[8 - octets.len()..].copy_from_slice(octets);
    }
    u64::from_ne_bytes(word)
}

fn address(octets: &[u8]) -> String {
    match octets {
        [a, b, c, d] => Ipv4Addr::new(*a, *b, *c, *d).to_string(),
        _ => <[u8; 16]>::try_from(octets).map_or_else(
            |_| format!("{octets:02x?}"),
            |octets| IpAddr::from(Ipv6Addr::from(octets)).to_canonical().to_string(),
        ),
    }
}

impl Names {
    fn device(&self, index: u64) -> String {
        match self.devices.get(&index) {
            Some(name) => name.clone(),
            None if index == 0 => "no device".to_owned(),
            None => format!("device {index}, which is not there"),
        }
    }
}
