//! The look-ups of a decision, over the maps.

use aya_ebpf::btf_maps::{HashMap, lpm_trie::Key};
use dataplane_ebpf::{
    abi::{
        Addr, Backend, BackendKey, Device, EgressRule, Endpoint, Flow, FlowKey, Grant, GrantKey, ListKey, Listed, Name,
        NameKey, Netns, Node, NodeConfig, Ptr, PtrKey, Service, ServiceKey,
    },
    tables::Tables,
};

use crate::maps;

/// The maps, as [`Tables`] wants them.
pub(crate) struct Kernel;

/// Octets of an address count in full when its rule is looked up.
const WHOLE_ADDRESS: u32 = 128;

/// Copies a value out of its map, once: without the barrier the compiler might check the seal on one read and
/// use another.
#[inline(always)]
fn copied<V: Copy>(element: Option<&V>) -> Option<V> {
    let copy = element.copied();
    barrier();
    copy
}

/// Keeps memory reads on their side of it. `compiler_fence` does not do: LLVM has no such instruction for BPF.
#[inline(always)]
fn barrier() {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("") };
}

#[inline(always)]
fn copy<K, V: Copy, const N: usize, const F: usize>(map: &HashMap<K, V, N, F>, key: &K) -> Option<V> {
    // SAFETY: the element may be recycled while it is copied; every value is sealed, and `Tables` settles the copy.
    copied(unsafe { map.get(key) })
}

/// As [`copy`], to where it is needed.
#[inline(always)]
fn copy_to<K, V: Copy, const N: usize, const F: usize>(map: &HashMap<K, V, N, F>, key: &K, into: &mut V) -> bool {
    // SAFETY: as for `copy`.
    let Some(element) = (unsafe { map.get(key) }) else { return false };
    *into = *element;
    barrier();
    true
}

impl Tables for Kernel {
    /// The array always has its element; one that was never written has no mark.
    #[inline(always)]
    fn node(&self) -> Option<&NodeConfig> {
        maps::NODE.get(0).filter(|node| node.mark_mask != 0)
    }

    #[inline(always)]
    fn raw_device(&self, ifindex: &u32, into: &mut Device) -> bool {
        copy_to(&maps::DEVICES, ifindex, into)
    }

    #[inline(always)]
    fn raw_netns(&self, cookie: &u64) -> Option<Netns> {
        copy(&maps::NETNS, cookie)
    }

    #[inline(always)]
    fn raw_endpoint(&self, addr: &Addr, into: &mut Endpoint) -> bool {
        copy_to(&maps::ENDPOINTS, addr, into)
    }

    #[inline(always)]
    fn raw_way(&self, node: &u32, into: &mut Node) -> bool {
        copy_to(&maps::NODES, node, into)
    }

    #[inline(always)]
    fn raw_service(&self, key: &ServiceKey) -> Option<Service> {
        copy(&maps::SERVICES, key)
    }

    #[inline(always)]
    fn raw_backend(&self, key: &BackendKey) -> Option<Backend> {
        copy(&maps::BACKENDS, key)
    }

    #[inline(always)]
    fn raw_name(&self, key: &NameKey) -> Option<Name> {
        copy(&maps::NAMES, key)
    }

    #[inline(always)]
    fn raw_ptr(&self, key: &PtrKey, into: &mut Ptr) -> bool {
        copy_to(&maps::PTRS, key, into)
    }

    #[inline(always)]
    fn raw_grant(&self, key: &GrantKey) -> Option<Grant> {
        copy(&maps::GRANTS, key)
    }

    #[inline(always)]
    fn raw_flow(&self, key: &FlowKey) -> Option<Flow> {
        // SAFETY: as for `copy`.
        copied(unsafe { maps::FLOWS.get(key) })
    }

    #[inline(always)]
    fn egress(&self, addr: &Addr) -> Option<EgressRule> {
        maps::EGRESS.get(&Key::new(WHOLE_ADDRESS, *addr)).copied()
    }

    #[inline(always)]
    fn listed(&self, listed: &Listed) -> Option<EgressRule> {
        maps::EGRESS_LISTS.get(&Key::new(ListKey::HEAD + WHOLE_ADDRESS, *listed)).copied()
    }
}
