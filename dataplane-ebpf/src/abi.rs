//! Layout of every key and value in the pinned maps.
//!
//! Rules: `repr(C)`, fixed-width integers, explicit zeroed padding, no `bool`, `enum` or `Option`,
//! byte order stated per field, size asserted at compile time. A change of layout raises
//! [`ABI_VERSION`]; a test fails when it did not.

mod addr;
pub mod changes;
mod keys;
#[cfg(feature = "next-abi")]
mod next;
mod node;
mod reason;
mod seal;
mod socket;
mod values;

pub use addr::{Addr, Pool};
pub use keys::{
    BackendKey, DropKey, EgressKey, FlowKey, GrantKey, ListKey, Listed, NAME_MAX, NameKey, PtrKey, ServiceKey,
};
pub use node::{Node, NodeConfig, UPLINKS_MAX};
pub use reason::{Event, EventKind, Reason};
pub use seal::{Pod, Sealed, settle, settle_in_place};
pub use socket::{SOCKET_ENTRIES, SocketEntry, SocketState};
pub use values::{
    Backend, Backends, Budget, Counter, Device, DropRecord, EgressRule, Endpoint, Flow, Grant, Identity, Name, Netns,
    Ptr, Service, action, flags,
};

/// Version of the layout, part of the pins' path (`<bpffs>/v<ABI_VERSION>/`). What changed with it is in [`changes`].
pub const ABI_VERSION: u32 = if cfg!(feature = "next-abi") { 3 } else { 2 };

/// Map names as they appear under the pin directory; at most 15 bytes (`BPF_OBJ_NAME_LEN` − 1).
pub mod map {
    /// Host ifindex → [`super::Device`].
    pub const DEVICES: &str = "DEVICES";
    /// Netns cookie → [`super::Netns`].
    pub const NETNS: &str = "NETNS";
    /// Address → [`super::Endpoint`].
    pub const ENDPOINTS: &str = "ENDPOINTS";
    /// Node id → [`super::Node`].
    pub const NODES: &str = "NODES";
    /// (environment, VIP) → [`super::Service`].
    pub const SERVICES: &str = "SERVICES";
    /// (service, generation, slot) → [`super::Backend`].
    pub const BACKENDS: &str = "BACKENDS";
    /// (environment, wire name) → [`super::Name`].
    pub const NAMES: &str = "NAMES";
    /// (environment, address) → [`super::Ptr`].
    pub const PTRS: &str = "PTRS";
    /// (source, destination, protocol, port) → [`super::Grant`].
    pub const GRANTS: &str = "GRANTS";
    /// Longest prefix → [`super::EgressRule`].
    pub const EGRESS: &str = "EGRESS";
    /// (service, list), longest prefix → [`super::EgressRule`].
    pub const EGRESS_LISTS: &str = "EGRESS_LISTS";
    /// Tuple of a flow that crossed a boundary → [`super::Flow`].
    pub const FLOWS: &str = "FLOWS";
    /// Host ifindex → [`super::Budget`] for new boundary flows.
    pub const BUDGETS: &str = "BUDGETS";
    /// Socket storage: [`super::SocketState`].
    pub const SOCKETS: &str = "SOCKETS";
    /// Identity → per-CPU [`super::Counter`].
    pub const COUNTERS: &str = "COUNTERS";
    /// (identity, reason) → per-CPU [`super::DropRecord`].
    pub const DROPS: &str = "DROPS";
    /// Ring buffer of [`super::Event`].
    pub const EVENTS: &str = "EVENTS";
    /// Array of one [`super::NodeConfig`].
    pub const NODE: &str = "NODE";
}

#[cfg(test)]
#[cfg(not(feature = "next-abi"))]
mod tests;
