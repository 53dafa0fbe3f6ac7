//! What the programs write down for people: counters, drops, events.
//!
//! The socket programs may be put aside in the middle for a packet program on the same CPU, hence the atomic
//! additions to what is otherwise each CPU's own.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_ktime_get_ns};
use dataplane_ebpf::abi::{Counter, DropKey, DropRecord, Event, EventKind, FlowKey, Identity, Reason};

use crate::maps::{COUNTERS, DROPS, EVENTS};

/// Drops of one identity, for one reason, on one CPU make at most one event in this time, in nanoseconds.
const QUIET: u64 = 100_000_000;

/// Counts a drop, keeps its tuple as the last one, and tells who listens.
#[inline(never)]
pub(crate) fn dropped(identity: Identity, reason: Reason, tuple: &FlowKey) {
    let key = DropKey { identity, reason: reason as u32 };
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
    if now.wrapping_sub(previous) > QUIET {
        tell(Event { at: now, identity, kind: EventKind::Drop as u32, reason: reason as u32, tuple: *tuple });
    }
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
