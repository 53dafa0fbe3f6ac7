//! Another key for this node's tunnel, without a connection lost.
//!
//! 1. The node makes its next private key, beside the present one, and tells its public half in its record.
//! 2. Each other node has its device know that key as a further peer, without any address, and acknowledges the record.
//!    Nothing changes for what is under way, however long that takes.
//! 3. The node takes the next key for the present one, in its files, then in its device, then in its record. From the
//!    second of these on it can be heard by its new key alone; the others give it the node's addresses when it is heard
//!    of (the userspace device by itself, with the first packet; for the kernel's [`has_switched`] tells), or when the
//!    record says so, and forget the old one with the record.
//!
//! The other order, addresses first, would cut whoever is quick for as long as the slowest takes. What there is of all
//! this is in the files and in the store, so whoever starts next goes on.

use super::desired::{Desired, Peer};
use super::observed::Observed;
use super::op::Op;
use crate::model::TunnelRecord;
use crate::wireguard::{Change, PublicKey, PublicKeys, Seen};

/// What this node has to do about its key now.
pub(super) fn plan(desired: &Desired, observed: &Observed, ops: &mut Vec<Op>) {
    // Who has not told how it is reached has nothing to change.
    let (Some(record), Some(keys)) = (&desired.tunnel, &observed.keys) else { return };
    let is = |key: PublicKey, told: &str| key.to_string() == told;
    match keys.next {
        None if desired.rotate > record.rotation && is(keys.present, &record.key) => ops.push(Op::MakeNextKey),
        None => {}
        Some(next) => {
            let told = is(keys.present, &record.key) && record.next.as_deref().is_some_and(|told| is(next, told));
            let known = told && desired.peers.values().all(|peer| peer.knows || !waits_for(peer, observed));
            // What the files of after a power cut do not know any more.
            let done = is(next, &record.key);
            if known || done {
                ops.push(Op::SwitchKey);
                ops.extend(observed.tunnel.iter().map(|_| Op::ChangeTunnel(Change::SetPrivateKey)));
            }
        }
    }
}

/// Whether a node must know the next key before it is used: its daemon is there, or else its tunnel still is, which would
/// be cut off until that daemon is back.
fn waits_for(peer: &Peer, observed: &Observed) -> bool {
    let key = peer.tunnel.as_ref().and_then(|tunnel| tunnel.key.parse().ok());
    let alive = observed.tunnel.as_ref().is_some_and(|tunnel| key.is_some_and(|key| tunnel.alive.contains(&key)));
    peer.present || alive
}

/// What others are to know of the keys: the next one, and which wish the present one fulfils.
pub(super) fn told(keys: PublicKeys, desired: &Desired) -> (Option<String>, u64) {
    let before = desired.tunnel.as_ref();
    let is_new = |record: &TunnelRecord| record.key != keys.present.to_string();
    let rotation = match before {
        Some(record) if !is_new(record) => record.rotation,
        _ => desired.rotate.max(before.map_or(0, |record| record.rotation)),
    };
    (keys.next.map(|next| next.to_string()), rotation)
}

/// Whether the device shows that another node uses its next key: it has got the node's addresses by itself, or its last
/// session was agreed on after the present one's.
pub(super) fn has_switched(present: PublicKey, next: PublicKey, seen: &Seen) -> bool {
    let handshake = |key| seen.peers.get(&key).and_then(|peer| peer.last_handshake);
    seen.peers.get(&next).is_some_and(|peer| !peer.peer.allowed.is_empty()) || handshake(next) > handshake(present)
}

#[cfg(test)]
pub(super) mod tests;
