use super::{Addr, Identity, seal::pod};

/// Longest wire-format name in [`super::map::NAMES`], in octets (RFC 1035 section 3.1, with the root's length octet).
pub const NAME_MAX: usize = 128;

/// Key of SERVICES.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceKey {
    /// Environment id, host order.
    pub env: u32,
    /// The VIP, network order.
    pub vip: Addr,
}

/// Key of BACKENDS.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BackendKey {
    /// Service id, host order.
    pub service: u32,
    /// Generation of the backend set, host order.
    pub generation: u32,
    /// Index in the set, host order; slots below the local count are on this node.
    pub slot: u32,
}

/// Key of NAMES.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NameKey {
    /// Environment id of the asker, host order.
    pub env: u32,
    /// Lower-cased wire-format name with its final zero octet, zero-filled.
    pub name: [u8; NAME_MAX],
}

/// Key of PTRS.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PtrKey {
    /// Environment id of the asker, host order.
    pub env: u32,
    /// The address asked for, network order.
    pub addr: Addr,
}

/// Key of GRANTS; zero in a field is a wildcard.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct GrantKey {
    /// Who sends.
    pub source: Identity,
    /// Who receives.
    pub destination: Identity,
    /// Destination port, network order.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

/// Key of EGRESS, as `BPF_MAP_TYPE_LPM_TRIE` wants it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EgressKey {
    /// Bits that count, host order; 96 more than the length of an IPv4 prefix.
    pub prefix_len: u32,
    /// The prefix, network order.
    pub addr: Addr,
}

/// As people write prefixes.
impl core::fmt::Display for EgressKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let bits = if self.addr.is_v4() { self.prefix_len.saturating_sub(96) } else { self.prefix_len };
        write!(f, "{}/{bits}", self.addr)
    }
}

/// Key of EGRESS_LISTS, as `BPF_MAP_TYPE_LPM_TRIE` wants it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ListKey {
    /// Bits that count, host order: those of service and list, and of the prefix as in [`EgressKey`].
    pub prefix_len: u32,
    /// What they are of.
    pub listed: Listed,
}

impl ListKey {
    /// Bits that are no prefix's.
    pub const HEAD: u32 = 64;

    /// The prefix alone.
    pub const fn prefix(&self) -> EgressKey {
        EgressKey { prefix_len: self.prefix_len.saturating_sub(Self::HEAD), addr: self.listed.addr }
    }
}

/// A place outside in one of a service's lists of where it may go.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Listed {
    /// Service id, host order.
    pub service: u32,
    /// Which of its lists, host order: see [`super::flags::list`].
    pub list: u32,
    /// The address, or a prefix of it, network order.
    pub addr: Addr,
}

/// Key of FLOWS: the tuple as the initiator sends it. For ICMP echo both ports are the identifier.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct FlowKey {
    /// The initiator's address, network order.
    pub source: Addr,
    /// The responder's address, network order.
    pub destination: Addr,
    /// The initiator's port, network order.
    pub source_port: u16,
    /// The responder's port, network order.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}

impl FlowKey {
    /// The same flow seen from the other side.
    #[inline(always)]
    pub const fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..self
        }
    }
}

/// Key of DROPS.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DropKey {
    /// Whose packet or socket it was: the receiver in `to_container`, the sender everywhere else.
    pub identity: Identity,
    /// [`super::Reason`] as a number, host order.
    pub reason: u32,
}

pod! {
    ServiceKey: 20,
    BackendKey: 12,
    NameKey: 132,
    PtrKey: 20,
    GrantKey: 20,
    EgressKey: 20,
    ListKey: 28,
    Listed: 24,
    FlowKey: 40,
    DropKey: 12,
}
