//! The look-ups that a decision needs, whoever provides them.

#[cfg(any(test, feature = "test-support"))]
pub mod fake;

use crate::{
    abi::{
        Addr, Backend, BackendKey, Device, EgressRule, Endpoint, Flow, FlowKey, Grant, GrantKey, Listed, Name, NameKey,
        Netns, Node, NodeConfig, Ptr, PtrKey, Reason, Service, ServiceKey, settle, settle_in_place,
    },
    packet::Packet,
};

/// What the host's routing table says about a packet (`bpf_fib_lookup`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// The host would forward it through this device.
    Forward {
        /// Output device.
        ifindex: u32,
    },
    /// It would not: local, unreachable, broadcast, too big …
    No,
}

/// A read of a sealed entry: absent, or whole; [`Reason::TornRead`] when it would not settle.
pub type Read<V> = Result<Option<V>, Reason>;

/// Raw look-ups, one per map; the provided methods settle them ([`settle`]), and decisions use only those.
pub trait Tables {
    /// NODE.
    fn node(&self) -> Option<&NodeConfig>;
    /// DEVICES, as read, into memory that is not the stack: copied once, not handed on.
    fn raw_device(&self, ifindex: &u32, into: &mut Device) -> bool;
    /// NETNS, as read.
    fn raw_netns(&self, cookie: &u64) -> Option<Netns>;
    /// ENDPOINTS, as read.
    fn raw_endpoint(&self, addr: &Addr, into: &mut Endpoint) -> bool;
    /// NODES, as read.
    fn raw_way(&self, node: &u32, into: &mut Node) -> bool;
    /// SERVICES, as read.
    fn raw_service(&self, key: &ServiceKey) -> Option<Service>;
    /// BACKENDS, as read.
    fn raw_backend(&self, key: &BackendKey) -> Option<Backend>;
    /// NAMES, as read.
    fn raw_name(&self, key: &NameKey) -> Option<Name>;
    /// PTRS, as read, into memory that is not the stack: a program has 512 octets of that.
    fn raw_ptr(&self, key: &PtrKey, into: &mut Ptr) -> bool;
    /// GRANTS, as read.
    fn raw_grant(&self, key: &GrantKey) -> Option<Grant>;
    /// FLOWS, as read.
    fn raw_flow(&self, key: &FlowKey) -> Option<Flow>;
    /// EGRESS: the longest prefix that `addr` lies in.
    fn egress(&self, addr: &Addr) -> Option<EgressRule>;
    /// EGRESS_LISTS: the longest prefix of that list that the address lies in.
    fn listed(&self, listed: &Listed) -> Option<EgressRule>;

    /// DEVICES; whether `into` has it.
    ///
    /// # Errors
    /// [`Reason::TornRead`], as for all of these.
    #[inline(always)]
    fn device(&self, ifindex: u32, into: &mut Device) -> Result<bool, Reason> {
        settle_in_place(&ifindex, into, |k, into| self.raw_device(k, into))
    }
    /// NETNS.
    #[inline(always)]
    fn netns(&self, cookie: u64) -> Read<Netns> {
        settle(&cookie, |k| self.raw_netns(k))
    }
    /// ENDPOINTS; whether `into` has it.
    #[inline(always)]
    fn endpoint(&self, addr: &Addr, into: &mut Endpoint) -> Result<bool, Reason> {
        settle_in_place(addr, into, |k, into| self.raw_endpoint(k, into))
    }
    /// NODES: the way to another node; whether `into` has it.
    #[inline(always)]
    fn way(&self, node: u32, into: &mut Node) -> Result<bool, Reason> {
        settle_in_place(&node, into, |k, into| self.raw_way(k, into))
    }
    /// SERVICES.
    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Read<Service> {
        settle(key, |k| self.raw_service(k))
    }
    /// BACKENDS.
    #[inline(always)]
    fn backend(&self, key: &BackendKey) -> Read<Backend> {
        settle(key, |k| self.raw_backend(k))
    }
    /// NAMES.
    #[inline(always)]
    fn name(&self, key: &NameKey) -> Read<Name> {
        settle(key, |k| self.raw_name(k))
    }
    /// PTRS; whether `into` has it.
    #[inline(always)]
    fn ptr(&self, key: &PtrKey, into: &mut Ptr) -> Result<bool, Reason> {
        settle_in_place(key, into, |k, into| self.raw_ptr(k, into))
    }
    /// GRANTS.
    #[inline(always)]
    fn grant(&self, key: &GrantKey) -> Read<Grant> {
        settle(key, |k| self.raw_grant(k))
    }
    /// FLOWS.
    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Read<Flow> {
        settle(key, |k| self.raw_flow(k))
    }
}

/// What the decision about a packet needs besides the tables: the moment, the host's routes, and a memory of the
/// flows that crossed a boundary.
pub trait Host {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    fn now(&self) -> u64;
    /// Where the host's routing table sends `packet`.
    fn route(&self, packet: &Packet) -> Route;
    /// Takes a token from the device's [`crate::abi::Budget`]; `false`: there was none.
    fn admit(&self, ifindex: u32) -> bool;
    /// Writes a new flow, already sealed, or replaces one that no longer holds.
    fn remember(&self, key: &FlowKey, flow: &Flow);
    /// Sets a flow's `last_seen`.
    fn touch(&self, key: &FlowKey, now: u64);
}
