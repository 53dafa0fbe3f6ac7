//! What becomes of a socket call: `connect`, `sendmsg` without a connection, and the way back.
//!
//! Here a VIP turns into a backend, once per connection or datagram flow, so that no packet needs
//! translating. And here a call that the packet path would drop fails at once, with an errno, instead
//! of timing out.

use crate::abi::{
    Addr, Backend, BackendKey, Backends, Endpoint, GrantKey, Identity, Netns, Reason, SOCKET_ENTRIES, Sealed as _,
    ServiceKey, SocketEntry, action, flags,
};
use crate::decide::egress::egress;
use crate::decide::grant::grant;
use crate::tables::Tables;

/// `IPPROTO_TCP`.
pub const TCP: u8 = 6;
/// `IPPROTO_UDP`.
const UDP: u8 = 17;

/// A `connect` or an unconnected `sendmsg`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// Cookie of the socket's network namespace.
    pub cookie: u64,
    /// IP protocol number of the socket.
    pub protocol: u8,
    /// Where to, network order.
    pub addr: Addr,
    /// Which port, network order.
    pub port: u16,
    /// Picks the backend.
    pub random: u32,
}

/// What becomes of an [`Attempt`].
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The address stays as it is.
    Pass,
    /// The address becomes the backend's.
    ToBackend,
    /// `ECONNREFUSED`: the service is there, but nobody serves it.
    Refuse,
    /// `EPERM`.
    Deny,
}

/// [`Decision`] for whoever is not a kernel program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The address stays as it is.
    Pass,
    /// The address becomes the backend's.
    ToBackend(Choice),
    /// `ECONNREFUSED`.
    Refuse(Reason),
    /// `EPERM`.
    Deny(Reason),
}

/// A backend, and where it was picked from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// Its address, of the same family as the VIP; the port stays.
    pub backend: Addr,
    /// The service.
    pub service: u32,
    /// Generation of its set.
    pub generation: u32,
    /// Picked now, not remembered.
    pub fresh: bool,
}

impl Choice {
    /// No backend.
    const NONE: Self = Self { backend: Addr::NONE, service: 0, generation: 0, fresh: false };
}

/// An [`Outcome`], and its circumstances. A plain structure, no enum with data: of those LLVM moves the unused parts
/// about, which the verifier takes for reads of registers that were never written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// Whose socket it is; [`Identity::WORLD`] for a network namespace that is no replica's.
    pub identity: Identity,
    /// The replica's own address of the family asked for, or none: for the record.
    pub source: Addr,
    /// What becomes of the call.
    pub outcome: Outcome,
    /// Why, with [`Outcome::Refuse`] and [`Outcome::Deny`].
    pub reason: Option<Reason>,
    /// Who, with [`Outcome::ToBackend`].
    pub choice: Choice,
}

impl Decision {
    const PASS: Self = Self {
        identity: Identity::WORLD,
        source: Addr::NONE,
        outcome: Outcome::Pass,
        reason: None,
        choice: Choice::NONE,
    };

    /// As one value.
    pub fn verdict(&self) -> Verdict {
        match (self.outcome, self.reason) {
            (Outcome::Pass, _) => Verdict::Pass,
            (Outcome::ToBackend, _) => Verdict::ToBackend(self.choice),
            (Outcome::Refuse, reason) => Verdict::Refuse(reason.unwrap_or(Reason::NoBackend)),
            (Outcome::Deny, reason) => Verdict::Deny(reason.unwrap_or(Reason::Denied)),
        }
    }

    #[inline(always)]
    const fn deny(reason: Reason) -> Self {
        Self { outcome: Outcome::Deny, reason: Some(reason), ..Self::PASS }
    }

    #[inline(always)]
    const fn refuse(reason: Reason) -> Self {
        Self { outcome: Outcome::Refuse, reason: Some(reason), ..Self::PASS }
    }

    #[inline(always)]
    const fn to(choice: Choice) -> Self {
        Self { outcome: Outcome::ToBackend, choice, ..Self::PASS }
    }

    #[inline(always)]
    fn unless(refused: Result<(), Reason>) -> Self {
        match refused {
            Ok(()) => Self::PASS,
            Err(reason) => Self::deny(reason),
        }
    }
}

/// Decides an unconnected `sendmsg`. What goes to a replica's own address is left to the sender's veth: that is how a
/// server answers each datagram, and it would pay twice for the same question.
#[inline(always)]
pub fn send(tables: &impl Tables, attempt: &Attempt, remembered: impl Fn(u32, u32) -> Option<Addr>) -> Decision {
    match tables.node() {
        Some(node) if node.is_container(&attempt.addr) => Decision::PASS,
        _ => connect(tables, attempt, remembered),
    }
}

/// Decides an [`Attempt`]. `remembered` tells which backend the socket already has for this address and port, of
/// that service and generation: a datagram flow stays on it, a new connection remembers nothing.
#[inline(always)]
pub fn connect(tables: &impl Tables, attempt: &Attempt, remembered: impl Fn(u32, u32) -> Option<Addr>) -> Decision {
    let netns = match tables.netns(attempt.cookie) {
        Ok(Some(netns)) => netns,
        // The host's, or a container's that is none of ours: the veth decides.
        Ok(None) => return Decision::PASS,
        Err(reason) => return Decision::deny(reason),
    };
    let source = if attempt.addr.is_v4() { Addr::from_v4_word(netns.address4) } else { netns.address6 };
    Decision { identity: netns.identity, source, ..decide(tables, &netns, attempt, remembered) }
}

#[inline(always)]
fn decide(
    tables: &impl Tables,
    netns: &Netns,
    attempt: &Attempt,
    remembered: impl Fn(u32, u32) -> Option<Addr>,
) -> Decision {
    if stays_inside(netns, &attempt.addr) {
        return Decision::PASS;
    }
    let Some(node) = tables.node() else {
        return Decision::deny(Reason::NoConfig);
    };
    if attempt.addr == node.dns {
        return Decision::PASS;
    }
    if node.is_vip(&attempt.addr) {
        return match attempt.protocol {
            TCP | UDP => to_service(tables, netns, attempt, remembered),
            // A ping socket: `from_container` answers for the VIP.
            _ => Decision::PASS,
        };
    }
    Decision::unless(if node.is_container(&attempt.addr) {
        to_endpoint(tables, netns, attempt)
    } else {
        out(tables, netns, attempt)
    })
}

/// Whether a packet to `addr` never leaves the network namespace.
#[inline(always)]
fn stays_inside(netns: &Netns, addr: &Addr) -> bool {
    /// `::1`, and the last word of it.
    const LOOPBACK6: Addr = Addr([0, 0, 0, u32::from_ne_bytes([0, 0, 0, 1])]);
    if addr.is_v4() {
        let first = addr.v4_word().to_ne_bytes()[0];
        // Linux takes a connect to 0.0.0.0 or :: for one to itself.
        first == 127 || addr.v4_word() == 0 || addr.v4_word() == netns.address4
    } else {
        *addr == LOOPBACK6 || addr.is_none() || *addr == netns.address6
    }
}

/// How often SERVICES is read again because its set was gone from BACKENDS: a program that is put aside for longer
/// than a set outlives its successor finds it so.
const ROUNDS: u32 = 2;

#[inline(always)]
fn to_service(
    tables: &impl Tables,
    netns: &Netns,
    attempt: &Attempt,
    remembered: impl Fn(u32, u32) -> Option<Addr>,
) -> Decision {
    let key = ServiceKey { env: netns.identity.env, vip: attempt.addr };
    let mut round = 0;
    while round < ROUNDS {
        let service = match tables.service(&key) {
            Ok(Some(service)) => service,
            Ok(None) => return Decision::deny(Reason::UnknownVip),
            Err(reason) => return Decision::deny(reason),
        };
        if service.networks & netns.networks == 0 {
            return Decision::deny(Reason::NoSharedNetwork);
        }
        let set = Backends::from_word(service.backends);
        let choice = |backend, fresh| Choice { backend, service: service.service, generation: set.generation, fresh };
        if let Some(backend) = remembered(service.service, set.generation) {
            return Decision::to(choice(backend, false));
        }
        if set.count == 0 {
            return Decision::refuse(Reason::NoBackend);
        }
        // Those on this node, as long as there are any.
        let among = if set.local > 0 { set.local } else { set.count };
        let pick = if service.flags & flags::AFFINITY == 0 { attempt.random } else { who(netns, service.service) };
        let slot = pick % u32::from(among);
        let key = BackendKey { service: service.service, generation: set.generation, slot };
        match tables.backend(&key) {
            Ok(Some(found)) => {
                let backend = address(&found, attempt.addr.is_v4());
                return if backend.is_none() {
                    Decision::refuse(Reason::NoBackend)
                } else {
                    Decision::to(choice(backend, true))
                };
            }
            Ok(None) => round += 1,
            Err(reason) => return Decision::deny(reason),
        }
    }
    Decision::deny(Reason::TornRead)
}

/// The same number whenever one client asks for one service, by whichever family. Fibonacci hashing (Knuth, TAOCP 6.4):
/// in the product's upper half each bit depends on all bits of the address.
#[inline(always)]
fn who(netns: &Netns, service: u32) -> u32 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let asks = u64::from(service) << 32 | u64::from(u32::from_be(netns.address4));
    (asks.wrapping_mul(GOLDEN) >> 32) as u32
}

/// A backend's address of one family, or none.
#[inline(always)]
fn address(backend: &Backend, v4: bool) -> Addr {
    match (v4, backend.address4) {
        (false, _) => backend.address6,
        (true, 0) => Addr::NONE,
        (true, word) => Addr::from_v4_word(word),
    }
}

#[inline(always)]
fn to_endpoint(tables: &impl Tables, netns: &Netns, attempt: &Attempt) -> Result<(), Reason> {
    let mut endpoint = Endpoint::default();
    if !tables.endpoint(&attempt.addr, &mut endpoint)? {
        return Err(Reason::UnknownAddress);
    }
    let same = endpoint.identity.env == netns.identity.env;
    if same && endpoint.networks & netns.networks != 0 {
        return Ok(());
    }
    let otherwise = if same { Reason::NoSharedNetwork } else { Reason::OtherEnvironment };
    let (source, destination) = (netns.identity, endpoint.identity);
    let asked = GrantKey { source, destination, port: attempt.port, protocol: attempt.protocol, pad: 0 };
    match grant(tables, &asked)? {
        Some(grant) if grant.action == action::ALLOW => Ok(()),
        Some(_) => Err(Reason::Denied),
        None => Err(otherwise),
    }
}

#[inline(always)]
fn out(tables: &impl Tables, netns: &Netns, attempt: &Attempt) -> Result<(), Reason> {
    egress(tables, netns.identity, netns.flags, &attempt.addr).map(|_| ())
}

/// A slot of a socket's memory, by number below [`SOCKET_ENTRIES`]. Numbers, not references: other threads write.
pub trait Memory {
    /// The slot as read; may be torn.
    fn entry(&self, slot: usize) -> SocketEntry;
}

/// The first whole entry that `wanted` takes, and its slot.
#[inline(always)]
fn find(memory: &impl Memory, wanted: impl Fn(&SocketEntry) -> bool) -> Option<(usize, SocketEntry)> {
    let mut slot = 0;
    while slot < SOCKET_ENTRIES {
        let entry = memory.entry(slot);
        if wanted(&entry) && entry.is_sealed_for(&SocketEntry::KEY) {
            return Some((slot, entry));
        }
        slot += 1;
    }
    None
}

/// The slot that holds this VIP and port, to be written over.
#[inline(always)]
pub fn slot_of(memory: &impl Memory, vip: &Addr, port: u16) -> Option<usize> {
    Some(find(memory, |entry| entry.port == u32::from(port) && entry.vip == *vip)?.0)
}

/// The slot that holds this backend and port.
#[inline(always)]
pub fn slot_of_backend(memory: &impl Memory, backend: &Addr, port: u16) -> Option<usize> {
    Some(find(memory, |entry| entry.port == u32::from(port) && entry.backend == *backend)?.0)
}

/// The backend that the socket has for this VIP and port, if it is of this service and generation.
#[inline(always)]
pub fn backend_of(memory: &impl Memory, vip: &Addr, port: u16, service: u32, generation: u32) -> Option<Addr> {
    let wanted = |entry: &SocketEntry| {
        entry.port == u32::from(port) && entry.vip == *vip && entry.service == service && entry.generation == generation
    };
    Some(find(memory, wanted)?.1.backend)
}

/// The VIP under which the socket knows this backend and port: whom an answer is said to come from.
#[inline(always)]
pub fn vip_of(memory: &impl Memory, backend: &Addr, port: u16) -> Option<Addr> {
    Some(find(memory, |entry| entry.port == u32::from(port) && entry.backend == *backend)?.1.vip)
}

/// The entry that remembers a choice.
#[inline(always)]
pub fn remember(attempt: &Attempt, choice: &Choice) -> SocketEntry {
    let entry = SocketEntry {
        vip: attempt.addr,
        backend: choice.backend,
        service: choice.service,
        generation: choice.generation,
        port: u32::from(attempt.port),
        pad: 0,
        seal: 0,
    };
    entry.sealed(&SocketEntry::KEY)
}

#[cfg(test)]
mod tests;
