//! Flows that crossed a boundary: what of a remembered one still holds.

use crate::{
    abi::{Flow, FlowKey, Identity, Reason, Sealed as _},
    packet::protocol,
    tables::{Host, Tables},
};

/// One second, in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// How long a flow of this IP protocol is remembered after its last packet, in nanoseconds.
#[inline(always)]
pub const fn lifetime(protocol: u8) -> u64 {
    match protocol {
        protocol::TCP => 24 * 60 * 60 * SECOND,
        protocol::ICMP | protocol::ICMPV6 => 30 * SECOND,
        // How long a receiver waits for the rest of a datagram: 30 s in Linux, 60 s in RFC 8200.
        protocol::FRAGMENT => 30 * SECOND,
        _ => 180 * SECOND,
    }
}

/// The two sides of a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Sides {
    /// The initiator.
    pub(super) source: Identity,
    /// The responder.
    pub(super) destination: Identity,
}

/// Where flows are remembered. A function of a program has five arguments at most, hence a type for the first three.
pub(super) struct Memory<'a, T, H> {
    pub(super) tables: &'a T,
    pub(super) host: &'a H,
    /// Whose budget a new flow is taken from.
    pub(super) ifindex: u32,
}

impl<T: Tables, H: Host> Memory<'_, T, H> {
    /// Whether the flow is remembered, both sides are still who they were, policy is still the same and it is young
    /// enough. It is then in `flow`.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    pub(super) fn live(&self, key: &FlowKey, sides: &Sides, flow: &mut Flow) -> Result<bool, Reason> {
        let node = self.tables.node().ok_or(Reason::NoConfig)?;
        *flow = match self.tables.flow(key)? {
            Some(flow) => flow,
            None => return Ok(false),
        };
        Ok(flow.source == sides.source
            && flow.destination == sides.destination
            && flow.epoch == node.epoch
            && self.host.now().saturating_sub(flow.last_seen) <= lifetime(key.protocol))
    }

    /// Remembers a flow that a rule lets cross, or that it went on.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    pub(super) fn remember(&self, key: &FlowKey, sides: &Sides, rule: u32, flow: &mut Flow) -> Result<(), Reason> {
        if self.live(key, sides, flow)? && flow.rule == rule {
            self.seen(key, flow);
            return Ok(());
        }
        let node = self.tables.node().ok_or(Reason::NoConfig)?;
        if !self.host.admit(self.ifindex) {
            return Err(Reason::FlowBudget);
        }
        let Sides { source, destination } = *sides;
        *flow = Flow {
            source,
            destination,
            rule,
            epoch: node.epoch,
            #[cfg(feature = "next-abi")]
            next: 0,
            last_seen: self.host.now(),
            seal: 0,
        };
        flow.seal = flow.sealed(key).seal;
        self.host.remember(key, flow);
        Ok(())
    }

    /// Notes that a flow goes on; once a second is enough for any lifetime, and spares other CPUs the cache line.
    #[inline(always)]
    pub(super) fn seen(&self, key: &FlowKey, flow: &Flow) {
        let now = self.host.now();
        if now.saturating_sub(flow.last_seen) >= SECOND {
            self.host.touch(key, now);
        }
    }
}
