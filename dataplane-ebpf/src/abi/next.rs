//! An ABI after this one, for the test of the upgrade: three kinds of maps have wider values. ENDPOINTS is written by
//! skepd alone, FLOWS by the programs, both sealed; COUNTERS by the programs, on each CPU.

use super::changes::{Change, read, write};
use super::seal::{Sealed, pod};
use super::values::sealed;
use super::{Addr, FlowKey, Identity, map};

pub(super) const CHANGES: &[Change] = &[
    Change { map: map::ENDPOINTS, version: 3, size: size_of::<super::Endpoint>(), convert: endpoint },
    Change { map: map::FLOWS, version: 3, size: size_of::<super::Flow>(), convert: flow },
    Change { map: map::COUNTERS, version: 3, size: size_of::<super::Counter>(), convert: counter },
];

/// As of version 2.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Endpoint {
    networks: u64,
    identity: Identity,
    node: u32,
    ifindex: u32,
    mac: [u8; 6],
    pad: u16,
    seal: u64,
}

/// As of version 2.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Flow {
    source: Identity,
    destination: Identity,
    rule: u32,
    epoch: u32,
    last_seen: u64,
    seal: u64,
}

pod! {
    Endpoint: 40,
    Flow: 40,
}

sealed! {
    Endpoint: seal,
    Flow: last_seen,
}

fn endpoint(key: &[u8], old: &[u8], new: &mut [u8]) -> bool {
    let (Some(key), Some(old)) = (read::<Addr>(key), read::<Endpoint>(old)) else { return false };
    let Endpoint { networks, identity, node, ifindex, mac, pad, .. } = old;
    let value = super::Endpoint { networks, identity, node, ifindex, mac, pad, next: 0, seal: 0 };
    old.is_sealed_for(&key) && write(value.sealed(&key), new)
}

fn flow(key: &[u8], old: &[u8], new: &mut [u8]) -> bool {
    let (Some(key), Some(old)) = (read::<FlowKey>(key), read::<Flow>(old)) else { return false };
    let Flow { source, destination, rule, epoch, last_seen, .. } = old;
    let value = super::Flow { source, destination, rule, epoch, next: 0, last_seen, seal: 0 };
    old.is_sealed_for(&key) && write(value.sealed(&key), new)
}

/// The new word came at the end.
fn counter(_: &[u8], old: &[u8], new: &mut [u8]) -> bool {
    let Some((same, added)) = new.split_at_mut_checked(old.len()) else { return false };
    same.copy_from_slice(old);
    added.fill(0);
    true
}
