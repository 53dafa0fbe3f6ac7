//! The tables as plain collections, for tests.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    vec::Vec,
};

use super::{Host, Route, Tables};
use crate::{
    abi::{
        Addr, Backend, BackendKey, Budget, Device, EgressKey, EgressRule, Endpoint, Flow, FlowKey, Grant, GrantKey,
        ListKey, Listed, Name, NameKey, Netns, Node, NodeConfig, Ptr, PtrKey, Service, ServiceKey,
    },
    packet::Packet,
};

/// The tables of a node, and the host around them. Values are sealed when they are read, as the daemon seals what
/// it writes, except those of [`Fake::torn`].
#[derive(Clone, Default, Debug)]
#[expect(missing_docs, reason = "named for the maps; `crate::abi::map` says what each holds")]
pub struct Fake {
    pub node: Option<NodeConfig>,
    pub devices: BTreeMap<u32, Device>,
    pub netns: BTreeMap<u64, Netns>,
    pub endpoints: BTreeMap<Addr, Endpoint>,
    pub nodes: BTreeMap<u32, Node>,
    pub services: BTreeMap<ServiceKey, Service>,
    pub backends: BTreeMap<BackendKey, Backend>,
    pub names: BTreeMap<NameKey, Name>,
    pub ptrs: BTreeMap<PtrKey, Ptr>,
    pub grants: BTreeMap<GrantKey, Grant>,
    pub egress: Vec<(EgressKey, EgressRule)>,
    pub lists: Vec<(ListKey, EgressRule)>,
    pub flows: RefCell<BTreeMap<FlowKey, Flow>>,
    pub budgets: RefCell<BTreeMap<u32, Budget>>,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub now: Cell<u64>,
    /// The host's routes, by the exact destination: the output device.
    pub routes: BTreeMap<Addr, u32>,
    /// Every value is read with a broken seal.
    pub torn: bool,
}

impl Fake {
    fn read<K: crate::abi::Pod + Ord, V: crate::abi::Sealed>(&self, map: &BTreeMap<K, V>, key: &K) -> Option<V> {
        map.get(key).map(|value| if self.torn { value.with_seal(0) } else { value.sealed(key) })
    }

    /// The tokens that `ifindex` has left.
    pub fn tokens(&self, ifindex: u32) -> Option<u64> {
        self.budgets.borrow().get(&ifindex).map(|budget| budget.tokens)
    }
}

impl Tables for Fake {
    fn node(&self) -> Option<&NodeConfig> {
        self.node.as_ref()
    }

    fn raw_device(&self, ifindex: &u32, into: &mut Device) -> bool {
        self.read(&self.devices, ifindex).map(|device| *into = device).is_some()
    }

    fn raw_netns(&self, cookie: &u64) -> Option<Netns> {
        self.read(&self.netns, cookie)
    }

    fn raw_endpoint(&self, addr: &Addr, into: &mut Endpoint) -> bool {
        self.read(&self.endpoints, addr).map(|endpoint| *into = endpoint).is_some()
    }

    fn raw_way(&self, node: &u32, into: &mut Node) -> bool {
        self.read(&self.nodes, node).map(|way| *into = way).is_some()
    }

    fn raw_service(&self, key: &ServiceKey) -> Option<Service> {
        self.read(&self.services, key)
    }

    fn raw_backend(&self, key: &BackendKey) -> Option<Backend> {
        self.read(&self.backends, key)
    }

    fn raw_name(&self, key: &NameKey) -> Option<Name> {
        self.read(&self.names, key)
    }

    fn raw_ptr(&self, key: &PtrKey, into: &mut Ptr) -> bool {
        self.read(&self.ptrs, key).map(|ptr| *into = ptr).is_some()
    }

    fn raw_grant(&self, key: &GrantKey) -> Option<Grant> {
        self.read(&self.grants, key)
    }

    /// As it was written: what the decision itself remembers has to carry its seal.
    fn raw_flow(&self, key: &FlowKey) -> Option<Flow> {
        self.flows.borrow().get(key).copied()
    }

    fn egress(&self, addr: &Addr) -> Option<EgressRule> {
        let inside = self.egress.iter().filter(|(key, _)| is_in(addr, &key.addr, key.prefix_len));
        inside.max_by_key(|(key, _)| key.prefix_len).map(|(_, rule)| *rule)
    }

    fn listed(&self, Listed { service, list, addr }: &Listed) -> Option<EgressRule> {
        let its = self.lists.iter().filter(|(key, _)| (key.listed.service, key.listed.list) == (*service, *list));
        let inside = its.filter(|(key, _)| is_in(addr, &key.listed.addr, key.prefix_len - ListKey::HEAD));
        inside.max_by_key(|(key, _)| key.prefix_len).map(|(_, rule)| *rule)
    }
}

/// Whether an address has so many bits of a prefix in front.
fn is_in(addr: &Addr, prefix: &Addr, bits: u32) -> bool {
    let octets = |addr: &Addr| u128::from_be_bytes(addr.octets());
    bits == 0 || (octets(addr) ^ octets(prefix)) >> (128 - bits) == 0
}

impl Host for Fake {
    fn now(&self) -> u64 {
        self.now.get()
    }

    fn route(&self, packet: &Packet) -> Route {
        self.routes.get(&packet.destination).map_or(Route::No, |ifindex| Route::Forward { ifindex: *ifindex })
    }

    fn admit(&self, ifindex: u32) -> bool {
        let mut budgets = self.budgets.borrow_mut();
        let full = Budget { tokens: Budget::BURST, refilled: self.now.get() };
        let budget = budgets.entry(ifindex).or_insert(full);
        budget.take(self.now.get()).map(|left| *budget = left).is_some()
    }

    fn remember(&self, key: &FlowKey, flow: &Flow) {
        self.flows.borrow_mut().insert(*key, *flow);
    }

    fn touch(&self, key: &FlowKey, now: u64) {
        if let Some(flow) = self.flows.borrow_mut().get_mut(key) {
            flow.last_seen = now;
        }
    }
}
