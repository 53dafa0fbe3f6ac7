//! Reads the pinned maps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use dataplane_ebpf::abi::{BackendKey, Backends, Sealed as _, flags};

use super::super::error::AgentError;
use super::super::tables::{BackendAddress, BackendSet, TableSet};
use crate::bpf::Maps;

/// What the pinned maps hold.
pub(super) fn read(maps: &Maps) -> Result<TableSet, AgentError> {
    let backends: BTreeMap<BackendKey, _> = maps.backends.entries()?.into_iter().collect();
    let mut services = BTreeMap::new();
    let node = maps.node()?;
    for (key, service) in maps.services.entries()? {
        let set = Backends::from_word(service.backends);
        let keys = (0..u32::from(set.count)).map(|slot| BackendKey {
            service: service.service,
            generation: set.generation,
            slot,
        });
        let found: Vec<_> = keys.filter_map(|key| Some((key, *backends.get(&key)?))).collect();
        // A torn or a forged value counts for the programs as none.
        let sealed =
            found.iter().all(|(key, backend)| *backend == backend.sealed(key)) && service == service.sealed(&key);
        let local = found.iter().filter(|(_, backend)| backend.node == node.node).count();
        let backends = found.iter().map(|(_, backend)| BackendAddress {
            address4: Ipv4Addr::from(backend.address4.to_ne_bytes()),
            address6: Ipv6Addr::from(backend.address6.octets()),
            node: backend.node,
        });
        let set = BackendSet {
            service: service.service,
            networks: service.networks,
            backends: backends.collect(),
            affinity: service.flags == flags::AFFINITY,
            intact: sealed && service.flags & !flags::AFFINITY == 0 && usize::from(set.local) == local,
        };
        services.insert(key, set);
    }
    let counters = maps.counters.entries()?.into_iter().map(|(identity, _)| identity);
    let drops = maps.drops.entries()?.into_iter().map(|(key, _)| key.identity);
    Ok(TableSet {
        node,
        devices: maps.devices.entries()?.into_iter().collect(),
        netns: maps.netns.entries()?.into_iter().collect(),
        endpoints: maps.endpoints.entries()?.into_iter().collect(),
        nodes: maps.nodes.entries()?.into_iter().collect(),
        services,
        names: maps.names.entries()?.into_iter().collect(),
        ptrs: maps.ptrs.entries()?.into_iter().collect(),
        egress: maps.egress_rules()?.into_iter().collect(),
        lists: maps.egress_lists()?.into_iter().collect(),
        grants: maps.grants.entries()?.into_iter().map(|(key, _)| key).collect(),
        budgets: maps.budgets.entries()?.into_iter().map(|(ifindex, _)| ifindex).collect(),
        // Which sets are about to go is known to who switches them.
        loose: BTreeSet::new(),
        counted: counters.chain(drops).collect(),
    })
}
