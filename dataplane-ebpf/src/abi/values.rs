use super::{Addr, FlowKey, NAME_MAX, Sealed, seal::pod};

/// Who a packet or socket belongs to: two non-zero ids from the store, host order, never reused.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Identity {
    /// Environment id.
    pub env: u32,
    /// Service id.
    pub service: u32,
}

impl Identity {
    /// Everything beyond the cluster; also what a drop is counted under when the sender is unknown.
    pub const WORLD: Self = Self { env: 0, service: 0 };
}

/// Bits of the `flags` fields.
pub mod flags {
    /// [`super::Device`], [`super::Netns`]: may send to the internet and resolve names out there.
    pub const EGRESS: u32 = 1;
    /// [`super::Service`]: each client is always sent to the same backend, as long as the set is the same.
    pub const AFFINITY: u32 = 2;

    /// Where the number of a list begins.
    const LIST: u32 = 16;

    /// The list in [`super::super::map::EGRESS_LISTS`] of where it may go, by its number in the service; 0: wherever EGRESS
    /// lets everybody go.
    #[inline(always)]
    pub const fn list(flags: u32) -> u32 {
        flags >> LIST
    }

    /// The flag that says the list.
    #[must_use]
    pub const fn of_list(number: u16) -> u32 {
        (number as u32) << LIST
    }
}

/// Values of the `action` fields.
pub mod action {
    /// Cross.
    pub const ALLOW: u32 = 1;
    /// Do not cross.
    pub const DENY: u32 = 2;
    /// EGRESS: only who lists it crosses.
    pub const LISTED: u32 = 3;
}

/// Value of DEVICES: what is behind the host end of a veth. One cache line.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Device {
    /// Networks inside the environment, a bit each.
    pub networks: u64,
    /// The replica's identity.
    pub identity: Identity,
    /// The replica's IPv6 address, or none.
    pub address6: Addr,
    /// The replica's IPv4 address as it lies in a packet.
    pub address4: u32,
    /// [`flags`].
    pub flags: u32,
    /// MAC of the container's end.
    pub mac: [u8; 6],
    /// MAC of the host's end, which is the container's gateway.
    pub host_mac: [u8; 6],
    /// Zero.
    pub pad: u32,
    /// See [`Sealed`].
    pub seal: u64,
}

/// Value of NETNS: whose socket it is.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Netns {
    /// Networks inside the environment, a bit each.
    pub networks: u64,
    /// The replica's identity.
    pub identity: Identity,
    /// The replica's IPv6 address, or none.
    pub address6: Addr,
    /// The replica's IPv4 address as it lies in a packet.
    pub address4: u32,
    /// [`flags`].
    pub flags: u32,
    /// See [`Sealed`].
    pub seal: u64,
}

/// Value of ENDPOINTS: who has an address and where.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Endpoint {
    /// Networks inside the environment, a bit each.
    pub networks: u64,
    /// The replica's identity.
    pub identity: Identity,
    /// The node it runs on.
    pub node: u32,
    /// Host ifindex of its veth on this node; 0: on another node.
    pub ifindex: u32,
    /// MAC of the container's end.
    pub mac: [u8; 6],
    /// Zero.
    pub pad: u16,
    /// Zero.
    #[cfg(feature = "next-abi")]
    pub next: u64,
    /// See [`Sealed`].
    pub seal: u64,
}

/// A backend set in one word, so that it is switched in one write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backends {
    /// Generation; the set's slots are `0..count` of it.
    pub generation: u32,
    /// How many backends.
    pub count: u16,
    /// How many of them, the first ones, are on this node.
    pub local: u16,
}

impl Backends {
    /// From its word.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self { generation: (word >> 32) as u32, count: (word >> 16) as u16, local: word as u16 }
    }

    /// As a word.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        (self.generation as u64) << 32 | (self.count as u64) << 16 | self.local as u64
    }
}

/// Value of SERVICES.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// [`Backends`] as a word, host order.
    pub backends: u64,
    /// Networks the service is in, a bit each.
    pub networks: u64,
    /// Service id.
    pub service: u32,
    /// [`flags`].
    pub flags: u32,
    /// See [`Sealed`].
    pub seal: u64,
}

/// Value of BACKENDS. The seal repeats the key (service, generation, slot).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backend {
    /// IPv6 address, or none.
    pub address6: Addr,
    /// IPv4 address as it lies in a packet.
    pub address4: u32,
    /// The node it runs on.
    pub node: u32,
    /// See [`Sealed`].
    pub seal: u64,
}

/// Value of NAMES: what a name means in one environment.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Name {
    /// Who may see it: askers that share a network.
    pub networks: u64,
    /// Answer to AAAA, or none.
    pub vip6: Addr,
    /// Answer to A as it lies in a packet, or zero.
    pub vip4: u32,
    /// The port that an answer to SRV says, host order; zero: none is known.
    pub port: u32,
    /// See [`Sealed`].
    pub seal: u64,
}

/// Value of PTRS.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ptr {
    /// Who may see it: askers that share a network.
    pub networks: u64,
    /// Wire-format name, zero-filled.
    pub name: [u8; NAME_MAX],
    /// Octets of `name` with the final zero.
    pub len: u32,
    /// Zero.
    pub pad: u32,
    /// See [`Sealed`].
    pub seal: u64,
}

/// Value of GRANTS.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Grant {
    /// [`action`].
    pub action: u32,
    /// Rule id, for people.
    pub rule: u32,
    /// See [`Sealed`].
    pub seal: u64,
}

/// Value of EGRESS and EGRESS_LISTS. The trie frees its nodes after a grace period, hence no seal.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EgressRule {
    /// [`action`].
    pub action: u32,
    /// Rule id, for people.
    pub rule: u32,
}

/// Value of FLOWS.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flow {
    /// The initiator.
    pub source: Identity,
    /// The responder; [`Identity::WORLD`] beyond the cluster.
    pub destination: Identity,
    /// The rule that let it cross.
    pub rule: u32,
    /// [`super::NodeConfig::epoch`] when it crossed.
    pub epoch: u32,
    /// Zero.
    #[cfg(feature = "next-abi")]
    pub next: u64,
    /// `CLOCK_MONOTONIC` in nanoseconds, changed in place; the seal does not cover it.
    pub last_seen: u64,
    /// See [`Sealed`].
    pub seal: u64,
}

/// Value of BUDGETS: a token bucket, changed in place by the program of its device alone.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Budget {
    /// New boundary flows still allowed.
    pub tokens: u64,
    /// `CLOCK_MONOTONIC` of the last refill, in nanoseconds.
    pub refilled: u64,
}

impl Budget {
    /// New flows that may start at once.
    pub const BURST: u64 = 2_000;
    /// Nanoseconds in which one token comes back: 500 flows a second.
    pub const REFILL: u64 = 2_000_000;

    /// The bucket with one token taken at `now`, or `None` when it is empty. One that holds more than
    /// [`Self::BURST`] was filled on purpose and keeps what it has.
    #[inline(always)]
    pub const fn take(self, now: u64) -> Option<Self> {
        let back = now.saturating_sub(self.refilled) / Self::REFILL;
        let tokens = match self.tokens.saturating_add(back) {
            _ if self.tokens > Self::BURST => self.tokens,
            full if full > Self::BURST => Self::BURST,
            tokens => tokens,
        };
        if tokens == 0 {
            return None;
        }
        // What has not made up a whole token goes on counting.
        let refilled = if back > Self::BURST { now } else { self.refilled + back * Self::REFILL };
        Some(Self { tokens: tokens - 1, refilled })
    }
}

/// Value of COUNTERS, a set per CPU.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counter {
    /// Packets sent and let through.
    pub sent_packets: u64,
    /// Their octets, from the Ethernet header on.
    pub sent_bytes: u64,
    /// Packets that reached the replica through the host's stack or from another node.
    pub received_packets: u64,
    /// Their octets.
    pub received_bytes: u64,
    /// Connects and datagram flows sent to a backend.
    pub connects: u64,
    /// DNS questions answered in the kernel.
    pub dns_answers: u64,
    /// Zero.
    #[cfg(feature = "next-abi")]
    pub next: u64,
}

/// Value of DROPS, a set per CPU: how many, and the last one.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DropRecord {
    /// How many.
    pub packets: u64,
    /// `CLOCK_MONOTONIC` of the last one, in nanoseconds.
    pub last_seen: u64,
    /// Tuple of the last one, as far as it could be read.
    pub tuple: FlowKey,
}

pod! {
    Identity: 8,
    Device: 64,
    Netns: 48,
    Endpoint: if cfg!(feature = "next-abi") { 48 } else { 40 },
    Service: 32,
    Backend: 32,
    Name: 40,
    Ptr: 152,
    Grant: 16,
    EgressRule: 8,
    Flow: if cfg!(feature = "next-abi") { 48 } else { 40 },
    Budget: 16,
    Counter: if cfg!(feature = "next-abi") { 56 } else { 48 },
    DropRecord: 56,
}

macro_rules! sealed {
    ($($type:ty: $end:ident),* $(,)?) => {$(
        // The seal's arithmetic goes by whole words of 8.
        const _: () = assert!(align_of::<$type>() == 8 && <$type as Sealed>::COVERED % 8 == 0);
        impl Sealed for $type {
            const COVERED: usize = core::mem::offset_of!($type, $end);

            #[inline(always)]
            fn seal(&self) -> u64 {
                self.seal
            }

            #[inline(always)]
            fn with_seal(self, seal: u64) -> Self {
                Self { seal, ..self }
            }
        }
    )*};
}
pub(super) use sealed;

// The field named is the first that the seal does not cover.
sealed! {
    Device: seal,
    Netns: seal,
    Endpoint: seal,
    Service: seal,
    Backend: seal,
    Name: seal,
    Ptr: seal,
    Grant: seal,
    Flow: last_seen,
}
