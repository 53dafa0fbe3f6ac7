//! What the programs write down for people: counters, drops, events.
//!
//! The socket programs may be put aside in the middle for a packet program on the same CPU, hence the atomic
//! additions to what is otherwise each CPU's own.

use aya_ebpf::{
    bindings::{BPF_NOEXIST, TC_ACT_SHOT},
    helpers::bpf_ktime_get_ns,
};
use dataplane_ebpf::{
    abi::{Counter, DropKey, DropRecord, Event, EventKind, FlowKey, Identity, Reason},
    packet::{self, Bytes as _},
};

use crate::{
    maps::{COUNTERS, DROPS, EVENTS, Scratch, scratch},
    skb::Skb,
};

/// Drops of one identity, for one reason, on one CPU make at most one event in each such window, in nanoseconds.
const QUIET: u64 = 100_000_000;

/// Counts a drop, keeps its tuple as the last one, and tells who listens.
#[inline(always)]
pub(crate) fn dropped(identity: Identity, reason: Reason, tuple: &FlowKey) {
    count_drop(identity, reason as u32, tuple);
}

#[inline(never)]
fn count_drop(identity: Identity, reason: u32, tuple: &FlowKey) {
    let key = DropKey { identity, reason };
    // SAFETY: no arguments, no effects.
    let now = unsafe { bpf_ktime_get_ns() };
    let previous = match DROPS.get_ptr_mut(&key) {
        Some(record) => {
            // SAFETY: the map's value, aligned; others on this CPU only add to it or overwrite the rest.
            unsafe {
                atomic_add(&raw mut (*record).packets, 1);
                let previous = (*record).last_seen;
                (*record).last_seen = now;
                (*record).tuple = *tuple;
                previous
            }
        }
        None => {
            let first = DropRecord { packets: 1, last_seen: now, tuple: *tuple };
            // A full map loses the count, not the drop.
            let _full = DROPS.insert(&key, &first, BPF_NOEXIST.into());
            0
        }
    };
    // By windows: the time since the last one would keep a steady stream silent for ever.
    if !Reason::is_routine(reason) && now / QUIET != previous / QUIET {
        tell(Event { at: now, identity, kind: EventKind::Drop as u32, reason, tuple: *tuple });
    }
}

/// Counts a packet as dropped; the action is to drop it.
#[inline(always)]
pub(crate) fn packet_dropped(skb: Skb, identity: Identity, reason: Reason) -> i32 {
    match scratch() {
        Some(scratch) => {
            scratch.dropped = DropKey { identity, reason: reason as u32 };
            account_for_drop(skb, scratch)
        }
        None => TC_ACT_SHOT,
    }
}

/// A function of its own, so that its stack is not every packet's. It finds the reason in memory, where the verifier
/// does not know it: it looks at this once, and not once for each of thirty reasons.
#[inline(never)]
fn account_for_drop(skb: Skb, scratch: &mut Scratch) -> i32 {
    let DropKey { identity, reason } = scratch.dropped;
    count_drop(identity, reason, &packet::tuple(&skb, skb.frame().gso != 0, &mut scratch.packet));
    TC_ACT_SHOT
}

/// A packet that was sent and let through.
#[inline(always)]
pub(crate) fn sent(identity: Identity, skb: Skb) {
    packet_counters(identity, |counter| {
        counter.sent_packets += 1;
        counter.sent_bytes += u64::from(skb.len());
    });
}

/// A packet that came through the host's stack.
#[inline(always)]
pub(crate) fn received(identity: Identity, skb: Skb) {
    packet_counters(identity, |counter| {
        counter.received_packets += 1;
        counter.received_bytes += u64::from(skb.len());
    });
}

/// A DNS question that was answered.
#[inline(always)]
pub(crate) fn answered(identity: Identity) {
    packet_counters(identity, |counter| counter.dns_answers += 1);
}

/// Changes the counters that packet programs alone write: no other program on their CPU comes between, so plain
/// additions do, which a packet notices.
#[inline(always)]
fn packet_counters(identity: Identity, change: impl Fn(&mut Counter)) {
    if let Some(counter) = COUNTERS.get_ptr_mut(&identity) {
        // SAFETY: the map's value, aligned; socket programs change other fields of it.
        return change(unsafe { &mut *counter });
    }
    let mut first = Counter::default();
    change(&mut first);
    let _full = COUNTERS.insert(&identity, &first, BPF_NOEXIST.into());
}

/// Adds to the counters of `identity`; `field` picks which.
#[inline(always)]
pub(crate) fn count(identity: Identity, field: fn(*mut Counter) -> *mut u64, amount: u64) {
    let counter = match COUNTERS.get_ptr_mut(&identity) {
        Some(counter) => counter,
        None => {
            let _full = COUNTERS.insert(&identity, &Counter::default(), BPF_NOEXIST.into());
            match COUNTERS.get_ptr_mut(&identity) {
                Some(counter) => counter,
                None => return,
            }
        }
    };
    // SAFETY: a field of the map's value, aligned; others on this CPU only add to it.
    unsafe { atomic_add(field(counter), amount) };
}

/// Counts a socket that was sent to a backend, and tells who listens; `tuple` has the backend as destination.
#[inline(always)]
pub(crate) fn connected(identity: Identity, tuple: &FlowKey) {
    // SAFETY: only the address of the field is taken.
    count(identity, |counter| unsafe { &raw mut (*counter).connects }, 1);
    // SAFETY: no arguments, no effects.
    let at = unsafe { bpf_ktime_get_ns() };
    tell(Event { at, identity, kind: EventKind::Connect as u32, reason: 0, tuple: *tuple });
}

/// A full ring loses the event: nobody reads it, or too slowly.
#[inline(always)]
fn tell(event: Event) {
    let _full = EVENTS.output(event, 0);
}

/// Adds, and returns what was there before. The compiler offers no atomics for BPF, the machine has them.
///
/// # Safety
/// `word` points into a map's value, aligned to 8.
#[inline(always)]
pub(crate) unsafe fn atomic_add(word: *mut u64, amount: u64) -> u64 {
    let mut value = amount;
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!("{value} = atomic_fetch_add((u64 *)({word} + 0), {value})", word = in(reg) word, value = inout(reg) value);
    }
    value
}
