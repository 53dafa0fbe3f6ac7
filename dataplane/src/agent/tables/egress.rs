//! Where replicas may go beyond the cluster: all of them, and those of a service that says so itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane_ebpf::abi::{EgressKey, EgressRule, ListKey, Listed, action};
use ipnet::IpNet;

use crate::agent::desired::Desired;
use crate::model::ReplicaAssignment;

/// The number of a replica's list among those of its service; 0: it has none. Replicas of one version have the same
/// list, so that it goes by the version's number, or by the container's own where it is there for one command. Of 32,767
/// versions the first is long gone when its number comes again.
pub(super) fn list(replica: &ReplicaAssignment) -> u16 {
    const COUNT: u32 = 0x7fff;
    let number = |n: u32| (n % COUNT + 1) as u16;
    match &replica.spec.egress {
        None => 0,
        Some(_) if replica.key.is_one_off() => 0x8000 | (replica.key.replica % 0x8000) as u16,
        Some(_) => number(replica.key.deployment),
    }
}

/// EGRESS_LISTS: what the replicas of this node list.
pub fn egress_lists(desired: &Desired) -> BTreeMap<ListKey, EgressRule> {
    let mut lists = BTreeMap::new();
    for replica in desired.replicas.values() {
        let (service, list) = (replica.service_id, list(replica).into());
        for (prefix, rule) in replica.spec.egress.iter().flatten().zip(1..) {
            let listed = Listed { service, list, addr: prefix.network().into() };
            let key = ListKey { prefix_len: ListKey::HEAD + bits(prefix), listed };
            lists.insert(key, EgressRule { action: action::ALLOW, rule });
        }
    }
    lists
}

/// Bits of an address that count, of 16 octets as the maps have it.
fn bits(prefix: &IpNet) -> u32 {
    let before = u32::from(u8::from(prefix.addr().is_ipv4())) * 96;
    before + u32::from(prefix.prefix_len())
}

/// Where replicas may and may not go beyond the cluster: the public internet, and nothing that is private, shared,
/// link-local, multicast, reserved, or leads into one of these by translation (IANA's special-purpose registries). Of what
/// is in `listed`, only to what they list.
pub fn egress_rules(listed: &BTreeSet<IpNet>) -> BTreeMap<EgressKey, EgressRule> {
    const DENIED4: [([u8; 4], u8); 16] = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        ([224, 0, 0, 0], 4),
        ([240, 0, 0, 0], 4),
        ([255, 255, 255, 255], 32),
    ];
    const DENIED6: [([u16; 8], u8); 12] = [
        ([0; 8], 96),
        ([0, 0, 0, 0, 0, 0, 0, 1], 128),
        ([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96),
        ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
        ([0x100, 0, 0, 0, 0, 0, 0, 0], 64),
        ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
        ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
        ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
        ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
        ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
        // With the site-local addresses of old.
        ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 9),
        ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
    ];
    let denied4 = DENIED4.map(|(octets, len)| (IpAddr::from(octets), u32::from(len) + 96));
    let denied6 = DENIED6.map(|(segments, len)| (IpAddr::from(segments), u32::from(len)));
    let denied = denied4.into_iter().chain(denied6).map(|(address, len)| (address, len, action::DENY));
    let allowed = [
        (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0, action::ALLOW),
        // The IPv4 internet: the v4-mapped addresses.
        (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 96, action::ALLOW),
    ];
    let listed = listed.iter().map(|prefix| (prefix.addr(), bits(prefix), action::LISTED));
    let rules = allowed.into_iter().chain(denied).chain(listed).zip(1..);
    rules
        .map(|((address, prefix_len, action), rule)| {
            (EgressKey { prefix_len, addr: address.into() }, EgressRule { action, rule })
        })
        .collect()
}
