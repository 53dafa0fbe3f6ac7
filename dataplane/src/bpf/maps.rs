use std::collections::{BTreeMap, BTreeSet};
use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use dataplane_ebpf::abi::{
    Addr, Backend, BackendKey, Budget, Counter, Device, DropKey, DropRecord, EgressKey, EgressRule, Endpoint, Flow,
    FlowKey, Grant, GrantKey, Identity, ListKey, Listed, Name, NameKey, Netns, Node, NodeConfig, Ptr, PtrKey, Service,
    ServiceKey, SocketState, action, map,
};
use dataplane_ebpf::tables::Tables;

use super::{BpfError, MapFacts, PerCpuTable, Pins, Table, table};

mod usage;

pub use usage::MapUsage;

/// How many entries the maps can hold; part of the node's configuration, since preallocated maps cost memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapSizes {
    /// Replicas of this node: DEVICES, NETNS, BUDGETS.
    pub local: u32,
    /// Replicas of all nodes: ENDPOINTS (two addresses each), BACKENDS (two generations), PTRS, NAMES.
    pub endpoints: u32,
    /// Services of all environments, each with two addresses: SERVICES, NAMES (a few per service), COUNTERS.
    pub services: u32,
    /// Rules: GRANTS, EGRESS, EGRESS_LISTS.
    pub rules: u32,
    /// Remembered flows: FLOWS.
    pub flows: u32,
}

impl MapSizes {
    /// Names of all services, a few for each, and one for each replica.
    pub fn names(&self) -> u32 {
        self.services.saturating_mul(4).saturating_add(self.endpoints)
    }
}

impl Default for MapSizes {
    /// Room for 2,048 replicas on the node and 16,384 in the cluster: about 40 MB of kernel memory.
    fn default() -> Self {
        Self { local: 2_048, endpoints: 16_384, services: 8_192, rules: 4_096, flows: 65_536 }
    }
}

/// What a pinned map must be like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    pub(super) name: &'static str,
    /// `enum bpf_map_type`.
    kind: u32,
    key_size: usize,
    value_size: usize,
    /// Configured capacity; `None`: as the object has it.
    pub(super) max_entries: Option<u32>,
}

impl Layout {
    pub(super) fn fits(&self, found: &MapFacts) -> bool {
        found.kind == self.kind
            && found.key_size as usize == self.key_size
            && found.value_size as usize == self.value_size
            && self.max_entries.is_none_or(|wanted| wanted == found.max_entries)
    }

    /// Octets of its keys and values, for each CPU where each has its own.
    fn bytes(&self) -> u64 {
        let copies = if self.kind == kind::PERCPU_HASH { table::possible_cpus().unwrap_or(1) } else { 1 };
        let entry = self.key_size + self.value_size * copies;
        entry as u64 * u64::from(self.max_entries.unwrap_or(1))
    }
}

/// `enum bpf_map_type` of the kernel's `include/uapi/linux/bpf.h`.
mod kind {
    pub(super) const HASH: u32 = 1;
    pub(super) const ARRAY: u32 = 2;
    pub(super) const PERCPU_HASH: u32 = 5;
    pub(super) const LRU_HASH: u32 = 9;
    pub(super) const LPM_TRIE: u32 = 11;
    pub(super) const SK_STORAGE: u32 = 24;
    pub(super) const RINGBUF: u32 = 27;
}

impl MapFacts {
    /// Whether it holds keys and values that can be listed.
    pub(super) fn has_entries(&self) -> bool {
        !matches!(self.kind, kind::RINGBUF | kind::SK_STORAGE)
    }

    /// Whether it has all of its elements from the beginning.
    pub(super) fn is_array(&self) -> bool {
        self.kind == kind::ARRAY
    }

    /// Whether an entry has a value for each CPU.
    pub(super) fn is_per_cpu(&self) -> bool {
        self.kind == kind::PERCPU_HASH
    }
}

/// Every pinned map.
pub(super) fn layout(sizes: &MapSizes) -> [Layout; 18] {
    const fn of<K, V>(name: &'static str, kind: u32, max_entries: Option<u32>) -> Layout {
        Layout { name, kind, key_size: size_of::<K>(), value_size: size_of::<V>(), max_entries }
    }
    let twice = |entries: u32| Some(entries.saturating_mul(2));
    let MapSizes { local, endpoints, services, rules, flows } = *sizes;
    [
        of::<u32, Device>(map::DEVICES, kind::HASH, Some(local)),
        of::<u64, Netns>(map::NETNS, kind::HASH, Some(local)),
        of::<Addr, Endpoint>(map::ENDPOINTS, kind::HASH, twice(endpoints)),
        of::<u32, Node>(map::NODES, kind::HASH, None),
        of::<ServiceKey, Service>(map::SERVICES, kind::HASH, twice(services)),
        of::<BackendKey, Backend>(map::BACKENDS, kind::HASH, twice(endpoints)),
        of::<NameKey, Name>(map::NAMES, kind::HASH, Some(sizes.names())),
        of::<PtrKey, Ptr>(map::PTRS, kind::HASH, twice(endpoints.saturating_add(services))),
        of::<GrantKey, Grant>(map::GRANTS, kind::HASH, Some(rules)),
        of::<EgressKey, EgressRule>(map::EGRESS, kind::LPM_TRIE, Some(rules)),
        of::<ListKey, EgressRule>(map::EGRESS_LISTS, kind::LPM_TRIE, Some(rules)),
        of::<FlowKey, Flow>(map::FLOWS, kind::LRU_HASH, Some(flows)),
        of::<u32, Budget>(map::BUDGETS, kind::HASH, Some(local)),
        of::<u32, SocketState>(map::SOCKETS, kind::SK_STORAGE, None),
        of::<Identity, Counter>(map::COUNTERS, kind::PERCPU_HASH, Some(local)),
        of::<DropKey, DropRecord>(map::DROPS, kind::PERCPU_HASH, Some(local.saturating_mul(4))),
        of::<(), ()>(map::EVENTS, kind::RINGBUF, None),
        of::<u32, NodeConfig>(map::NODE, kind::ARRAY, None),
    ]
}

/// Why the object's maps were not made: want of memory has a remedy of its own.
pub(super) fn not_made(sizes: &MapSizes, error: EbpfError) -> BpfError {
    let (name, source) = match error {
        EbpfError::MapError(MapError::CreateError { name, io_error }) if is_memory(&io_error) => (name, io_error),
        error => return BpfError::Object { source: Box::new(error) },
    };
    let Some(map) = layout(sizes).into_iter().find(|map| map.name == name) else {
        return BpfError::Object { source: Box::new(MapError::CreateError { name, io_error: source }.into()) };
    };
    let entries = map.max_entries.unwrap_or_default();
    BpfError::MapMemory { map: map.name, entries, bytes: map.bytes(), source }
}

/// `E2BIG`: more than the kernel gives any map, whatever memory there is.
fn is_memory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::E2BIG))
}

/// The pinned maps, typed. Opening them takes nothing but the pins: it works with skepd dead.
#[derive(Debug)]
#[expect(missing_docs, reason = "named for the maps; `dataplane_ebpf::abi::map` says what each holds")]
pub struct Maps {
    pub devices: Table<u32, Device>,
    pub netns: Table<u64, Netns>,
    pub endpoints: Table<Addr, Endpoint>,
    pub nodes: Table<u32, Node>,
    pub services: Table<ServiceKey, Service>,
    pub backends: Table<BackendKey, Backend>,
    pub names: Table<NameKey, Name>,
    pub ptrs: Table<PtrKey, Ptr>,
    pub grants: Table<GrantKey, Grant>,
    pub flows: Table<FlowKey, Flow>,
    pub counters: PerCpuTable<Identity, Counter>,
    pub drops: PerCpuTable<DropKey, DropRecord>,
    pub budgets: Table<u32, Budget>,
    egress: Table<EgressKey, EgressRule>,
    lists: Table<ListKey, EgressRule>,
    node: Table<u32, NodeConfig>,
}

impl Maps {
    /// Opens all pins for reading and writing.
    ///
    /// # Errors
    /// [`BpfError::NoPin`] when nothing was set up, [`BpfError::ForeignMap`] when another ABI did.
    pub fn open(pins: &Pins) -> Result<Self, BpfError> {
        Self::open_as(pins, true)
    }

    /// Opens all pins for reading only: writes fail with `EPERM`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_read_only(pins: &Pins) -> Result<Self, BpfError> {
        Self::open_as(pins, false)
    }

    fn open_as(pins: &Pins, writable: bool) -> Result<Self, BpfError> {
        macro_rules! open {
            ($type:ident, $name:expr) => {
                $type::open($name, &pins.map($name), writable)?
            };
        }
        Ok(Self {
            devices: open!(Table, map::DEVICES),
            netns: open!(Table, map::NETNS),
            endpoints: open!(Table, map::ENDPOINTS),
            nodes: open!(Table, map::NODES),
            services: open!(Table, map::SERVICES),
            backends: open!(Table, map::BACKENDS),
            names: open!(Table, map::NAMES),
            ptrs: open!(Table, map::PTRS),
            grants: open!(Table, map::GRANTS),
            flows: open!(Table, map::FLOWS),
            counters: open!(PerCpuTable, map::COUNTERS),
            drops: open!(PerCpuTable, map::DROPS),
            budgets: open!(Table, map::BUDGETS),
            egress: open!(Table, map::EGRESS),
            lists: open!(Table, map::EGRESS_LISTS),
            node: open!(Table, map::NODE),
        })
    }

    /// The node's configuration; all zero until it is first written.
    ///
    /// # Errors
    /// [`BpfError::Map`], as for all of these.
    pub fn node(&self) -> Result<NodeConfig, BpfError> {
        Ok(self.node.get(&0)?.unwrap_or_default())
    }

    /// Writes the node's configuration; one that is already there is not written again.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn set_node(&self, config: &NodeConfig) -> Result<(), BpfError> {
        if self.node()? == *config { Ok(()) } else { self.node.put_bare(&0, config) }
    }

    /// The rules about what may leave the cluster.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn egress_rules(&self) -> Result<Vec<(EgressKey, EgressRule)>, BpfError> {
        self.egress.entries()
    }

    /// Makes EGRESS hold exactly `wanted`. Denials are written first and allowances last, and what is no longer
    /// wanted goes the other way round, so that nothing is open for a moment that neither set opens.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn set_egress(&self, wanted: &[(EgressKey, EgressRule)]) -> Result<(), BpfError> {
        let present: BTreeMap<_, _> = self.egress.entries()?.into_iter().collect();
        let kept: BTreeSet<_> = wanted.iter().map(|(key, _)| *key).collect();
        let allows = |rule: &EgressRule| rule.action == action::ALLOW;
        let write = |allowances: bool| {
            let new = wanted.iter().filter(|(key, rule)| present.get(key) != Some(rule));
            let mut new = new.filter(|(_, rule)| allows(rule) == allowances);
            new.try_for_each(|(key, rule)| self.egress.put_bare(key, rule))
        };
        let delete = |allowances: bool| {
            let gone = present.iter().filter(|(key, rule)| !kept.contains(key) && allows(rule) == allowances);
            gone.map(|(key, _)| self.egress.delete(key)).try_for_each(|deleted| deleted.map(drop))
        };
        write(false)?;
        delete(true)?;
        delete(false)?;
        write(true)
    }

    /// The longest prefix of EGRESS that `addr` lies in.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn egress(&self, addr: &Addr) -> Result<Option<EgressRule>, BpfError> {
        self.egress.get(&EgressKey { prefix_len: 128, addr: *addr })
    }

    /// Where services say that they may go.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn egress_lists(&self) -> Result<Vec<(ListKey, EgressRule)>, BpfError> {
        self.lists.entries()
    }

    /// Makes EGRESS_LISTS hold exactly `wanted`: what is not goes first.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn set_egress_lists(&self, wanted: &BTreeMap<ListKey, EgressRule>) -> Result<(), BpfError> {
        let present: BTreeMap<_, _> = self.lists.entries()?.into_iter().collect();
        for key in present.keys().filter(|key| !wanted.contains_key(key)) {
            self.lists.delete(key)?;
        }
        let mut new = wanted.iter().filter(|(key, rule)| present.get(key) != Some(rule));
        new.try_for_each(|(key, rule)| self.lists.put_bare(key, rule))
    }

    /// The look-ups that a decision needs, with the node's configuration as it is now.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn view(&self) -> Result<View<'_>, BpfError> {
        Ok(View { maps: self, node: self.node()? })
    }
}

/// [`Tables`] over the pins: what the programs would see. A map that cannot be read counts as empty, which
/// decides as if it were closed.
#[derive(Debug)]
pub struct View<'a> {
    maps: &'a Maps,
    node: NodeConfig,
}

impl Tables for View<'_> {
    fn node(&self) -> Option<&NodeConfig> {
        // As the programs see it: a configuration that was never written has no mark.
        (self.node.mark_mask != 0).then_some(&self.node)
    }
    fn raw_device(&self, ifindex: &u32, into: &mut Device) -> bool {
        self.maps.devices.get(ifindex).ok().flatten().map(|device| *into = device).is_some()
    }
    fn raw_netns(&self, cookie: &u64) -> Option<Netns> {
        self.maps.netns.get(cookie).ok().flatten()
    }
    fn raw_endpoint(&self, addr: &Addr, into: &mut Endpoint) -> bool {
        self.maps.endpoints.get(addr).ok().flatten().map(|endpoint| *into = endpoint).is_some()
    }
    fn raw_way(&self, node: &u32, into: &mut Node) -> bool {
        self.maps.nodes.get(node).ok().flatten().map(|way| *into = way).is_some()
    }
    fn raw_service(&self, key: &ServiceKey) -> Option<Service> {
        self.maps.services.get(key).ok().flatten()
    }
    fn raw_backend(&self, key: &BackendKey) -> Option<Backend> {
        self.maps.backends.get(key).ok().flatten()
    }
    fn raw_name(&self, key: &NameKey) -> Option<Name> {
        self.maps.names.get(key).ok().flatten()
    }
    fn raw_ptr(&self, key: &PtrKey, into: &mut Ptr) -> bool {
        let found = self.maps.ptrs.get(key).ok().flatten();
        found.map(|ptr| *into = ptr).is_some()
    }
    fn raw_grant(&self, key: &GrantKey) -> Option<Grant> {
        self.maps.grants.get(key).ok().flatten()
    }
    fn raw_flow(&self, key: &FlowKey) -> Option<Flow> {
        self.maps.flows.get(key).ok().flatten()
    }
    fn egress(&self, addr: &Addr) -> Option<EgressRule> {
        self.maps.egress(addr).ok().flatten()
    }
    fn listed(&self, listed: &Listed) -> Option<EgressRule> {
        self.maps.lists.get(&ListKey { prefix_len: ListKey::HEAD + 128, listed: *listed }).ok().flatten()
    }
}
