//! Names of services and replicas, as people write them and as they lie in a DNS packet.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use dataplane_ebpf::abi::NAME_MAX;

use crate::model::assignment::RELEASE_TASK;
use crate::model::name::ZONE;
use crate::model::{ReplicaKey, ServiceAssignment, ServiceKey};

/// `api`, `api.internal`.
pub(super) fn short_forms(label: &str) -> [String; 2] {
    [label.to_owned(), format!("{label}.{ZONE}")]
}

/// `api.production.shop.internal`.
pub fn full_name(key: &ServiceKey) -> String {
    format!("{}.{}.{}.{ZONE}", key.service, key.environment.environment, key.environment.project)
}

/// `2.api.internal`: one replica, for who must tell them apart, as members of a database do.
pub fn replica_name(service: &ServiceKey, number: u32) -> String {
    format!("{number}.{}.{ZONE}", service.service)
}

/// Of a service's replicas those that have a name of their own, by their numbers: of two with the same number the one
/// that serves, else the newer one. What runs and ends has none, nor has what is there for one command.
pub fn named<'r, R>(
    service: &ServiceAssignment,
    replicas: impl Iterator<Item = (&'r ReplicaKey, R)>,
) -> BTreeMap<u32, R> {
    let mut named = BTreeMap::new();
    let has_name =
        |key: &ReplicaKey| key.replica != RELEASE_TASK && !key.is_one_off() && service.spec.schedule.is_none();
    for (key, replica) in replicas.filter(|(key, _)| has_name(key)) {
        let rank = (service.is_served_by(key), key.deployment);
        match named.entry(key.replica) {
            Entry::Vacant(free) => drop(free.insert((rank, replica))),
            Entry::Occupied(mut taken) if taken.get().0 < rank => drop(taken.insert((rank, replica))),
            Entry::Occupied(_) => {}
        }
    }
    named.into_iter().map(|(number, (_, replica))| (number, replica)).collect()
}

/// Every name of a service itself with the networks in which it holds, a bit each.
pub fn names(service: &ServiceAssignment) -> BTreeMap<String, u64> {
    let aliases = service.aliases.iter().flat_map(|(alias, bits)| short_forms(alias).map(|name| (name, *bits)));
    let own = short_forms(&service.key.service).into_iter().chain([full_name(&service.key)]);
    aliases.chain(own.map(|name| (name, service.networks))).collect()
}

/// A name as it lies in a DNS packet, zero-filled, and its length with the final zero;
/// `None` when a label is empty or over 63 octets, or the whole is over [`NAME_MAX`].
pub fn wire_name(name: &str) -> Option<([u8; NAME_MAX], u32)> {
    let mut out = [0; NAME_MAX];
    let mut at = 0;
    for label in name.split('.') {
        let len = u8::try_from(label.len()).ok().filter(|len| (1..=63).contains(len))?;
        let end = at + 1 + label.len();
        // The root's own octet must fit behind it.
        if end >= NAME_MAX {
            return None;
        }
        out[at] = len;
        out[at + 1..end].copy_from_slice(label.as_bytes());
        at = end;
    }
    Some((out, u32::try_from(at + 1).ok()?))
}

/// A wire-format name for people.
pub fn text_name(wire: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut rest = wire;
    while let Some((&len, tail)) = rest.split_first().filter(|(len, _)| **len > 0) {
        let Some((label, tail)) = tail.split_at_checked(usize::from(len)) else { break };
        labels.push(label.escape_ascii().to_string());
        rest = tail;
    }
    labels.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EnvironmentKey, ServiceSpec};

    #[test]
    fn a_wire_name_reads_back() {
        let (wire, len) = wire_name("api.production.shop.internal").unwrap();
        assert_eq!(len, 30);
        assert_eq!(text_name(&wire), "api.production.shop.internal");
        assert!(wire_name("a..b").is_none());
        assert!(wire_name(&"x".repeat(64)).is_none());
        let longest = [&"a".repeat(63), &"b".repeat(62)].map(String::as_str).join(".");
        assert_eq!(wire_name(&longest).unwrap().1, 128);
        assert!(wire_name(&format!("{longest}b")).is_none());
    }

    #[test]
    fn a_replicas_name_goes_over_with_its_service() {
        let environment = EnvironmentKey { project: "shop".into(), environment: "production".into() };
        let key = environment.service("db");
        let service = |deployment| ServiceAssignment {
            key: key.clone(),
            env: 1,
            id: 1,
            vip4: [10, 224, 0, 1].into(),
            vip6: "fd54::1".parse().unwrap(),
            networks: 1,
            aliases: BTreeMap::new(),
            deployment,
            next: None,
            spec: ServiceSpec::of_image("db"),
            leaving: false,
        };
        let [release, one_off] = [key.replica(2, RELEASE_TASK), key.one_off(3)];
        let all = [key.replica(1, 1), key.replica(1, 2), key.replica(2, 1), release, one_off];
        let named = |service: &ServiceAssignment| -> Vec<(u32, u32)> {
            named(service, all.iter().map(|of| (of, of.deployment))).into_iter().collect()
        };
        assert_eq!(named(&service(1)), [(1, 1), (2, 1)], "the new one does not serve yet");
        assert_eq!(named(&service(2)), [(1, 2), (2, 1)], "and one that is left has its name until it is gone");
        assert_eq!(replica_name(&key, 2), "2.db.internal");
    }
}
