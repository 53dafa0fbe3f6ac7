//! All maps. Their names are those of [`dataplane_ebpf::abi::map`].
//!
//! The capacities here are what the loader overrides from the daemon's configuration. The hashes are
//! preallocated: an insert can then neither fail for want of memory nor make a packet wait for it.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf, SkStorage},
    macros::btf_map,
};
use dataplane_ebpf::abi::{
    Addr, Backend, BackendKey, Budget, Counter, Device, DropKey, DropRecord, EgressRule, Endpoint, Event, Flow,
    FlowKey, Grant, GrantKey, Identity, Listed, Name, NameKey, Netns, Node, NodeConfig, Ptr, PtrKey, Service,
    ServiceKey, SocketState,
};

#[btf_map]
pub(crate) static DEVICES: HashMap<u32, Device, 4_096> = HashMap::new();
#[btf_map]
pub(crate) static NETNS: HashMap<u64, Netns, 4_096> = HashMap::new();
#[btf_map]
pub(crate) static ENDPOINTS: HashMap<Addr, Endpoint, 16_384> = HashMap::new();
/// Far fewer than there are endpoints, and not configured: as many as a cluster may have.
#[btf_map]
pub(crate) static NODES: HashMap<u32, Node, 1_024> = HashMap::new();
#[btf_map]
pub(crate) static SERVICES: HashMap<ServiceKey, Service, 16_384> = HashMap::new();
#[btf_map]
pub(crate) static BACKENDS: HashMap<BackendKey, Backend, 32_768> = HashMap::new();
#[btf_map]
pub(crate) static NAMES: HashMap<NameKey, Name, 16_384> = HashMap::new();
#[btf_map]
pub(crate) static PTRS: HashMap<PtrKey, Ptr, 16_384> = HashMap::new();
#[btf_map]
pub(crate) static GRANTS: HashMap<GrantKey, Grant, 4_096> = HashMap::new();
/// This map and the next are allocated entry by entry (the kernel knows no other trie); programs only read them.
#[btf_map]
pub(crate) static EGRESS: LpmTrie<Addr, EgressRule, 1_024> = LpmTrie::new();
#[btf_map]
pub(crate) static EGRESS_LISTS: LpmTrie<Listed, EgressRule, 4_096> = LpmTrie::new();
/// Least recently used out first, so that a full table costs an old flow, never a new one.
#[btf_map]
pub(crate) static FLOWS: LruHashMap<FlowKey, Flow, 65_536> = LruHashMap::new();
#[btf_map]
pub(crate) static BUDGETS: HashMap<u32, Budget, 4_096> = HashMap::new();
#[btf_map]
pub(crate) static SOCKETS: SkStorage<SocketState> = SkStorage::new();
#[btf_map]
pub(crate) static COUNTERS: PerCpuHashMap<Identity, Counter, 4_096> = PerCpuHashMap::new();
#[btf_map]
pub(crate) static DROPS: PerCpuHashMap<DropKey, DropRecord, 8_192> = PerCpuHashMap::new();
#[btf_map]
pub(crate) static EVENTS: RingBuf<Event, { 256 * 1024 }> = RingBuf::new();
#[btf_map]
pub(crate) static NODE: Array<NodeConfig, 1> = Array::new();
#[btf_map]
pub(crate) static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// Working memory of the tc programs, which nothing interrupts that would want it, too. Socket hooks can be put aside
/// in the middle and must not share any.
#[repr(C)]
pub(crate) struct Scratch {
    pub(crate) work: dataplane_ebpf::decide::Workspace,
    pub(crate) dns: dataplane_ebpf::dns::Scratch,
    /// Why a packet is dropped, and whose it is.
    pub(crate) dropped: DropKey,
    /// What is told about it.
    pub(crate) packet: dataplane_ebpf::packet::Packet,
    /// What its sender gets back of it.
    pub(crate) quote: dataplane_ebpf::packet::too_big::Quote,
}

/// This CPU's working memory. There always is one; the verifier wants to see that it was looked at.
#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: this CPU's element, in memory that stays, and the running program is the only one that uses it.
    SCRATCH.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
}
