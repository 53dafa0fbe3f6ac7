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

/// What lets a flow cross. One argument: the kernel takes five at most, counted as the source has them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Crossing {
    /// The device whose budget a new flow is taken from.
    pub(super) ifindex: u32,
    /// The two sides.
    pub(super) sides: Sides,
    /// The rule.
    pub(super) rule: u32,
}

/// Whether the flow is remembered, both sides are still who they were, policy is still the same and it is young
/// enough. It is then in `flow`.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn live(
    tables: &impl Tables,
    host: &impl Host,
    key: &FlowKey,
    sides: &Sides,
    flow: &mut Flow,
) -> Result<bool, Reason> {
    let node = tables.node().ok_or(Reason::NoConfig)?;
    *flow = match tables.flow(key)? {
        Some(flow) => flow,
        None => return Ok(false),
    };
    Ok(flow.source == sides.source
        && flow.destination == sides.destination
        && flow.epoch == node.epoch
        && host.now().saturating_sub(flow.last_seen) <= lifetime(key.protocol))
}

/// Remembers a flow that a rule lets cross, or that it went on.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn remember(
    tables: &impl Tables,
    host: &impl Host,
    key: &FlowKey,
    Crossing { ifindex, sides, rule }: &Crossing,
    flow: &mut Flow,
) -> Result<(), Reason> {
    if live(tables, host, key, sides, flow)? && flow.rule == *rule {
        seen(host, key, flow);
        return Ok(());
    }
    let node = tables.node().ok_or(Reason::NoConfig)?;
    if !host.admit(*ifindex) {
        return Err(Reason::FlowBudget);
    }
    let (Sides { source, destination }, rule) = (*sides, *rule);
    *flow = Flow { source, destination, rule, epoch: node.epoch, last_seen: host.now(), seal: 0 };
    flow.seal = flow.sealed(key).seal;
    host.remember(key, flow);
    Ok(())
}

/// Notes that a flow goes on; once a second is enough for any lifetime, and spares other CPUs the cache line.
#[inline(always)]
pub(super) fn seen(host: &impl Host, key: &FlowKey, flow: &Flow) {
    let now = host.now();
    if now.saturating_sub(flow.last_seen) >= SECOND {
        host.touch(key, now);
    }
}
