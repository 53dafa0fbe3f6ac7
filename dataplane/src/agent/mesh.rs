//! The tunnels to the other nodes: what they should be, and how the maps lead into them.
//!
//! A node is in NODES when its tunnel is ready for it: the device is there, `from_wireguard` is on it, and it knows the
//! peer. Until then what is sent there is dropped, and counted as such; nothing ever takes another way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use dataplane_ebpf::abi::{Node, Sealed as _};
use tracing::warn;

use super::desired::{Desired, Peer};
use super::observed::Observed;
use super::op::Op;
use super::paths::Target;
use super::rotation;
use crate::config::TunnelKind;
use crate::model::TunnelRecord;
use crate::wireguard::{self, Change, PublicKey, PublicKeys, Seen, Wanted};

/// Octets that WireGuard puts around a packet: an IPv6 header of 40, UDP's 8, its own 32. Over IPv4 it is 20 less, but
/// the way may change.
const OVERHEAD: u32 = 80;
/// Of IPv6: no way is narrower (RFC 8200, section 5).
const MTU_MIN: u32 = 1_280;
/// Seconds: routers forget a UDP flow after 30 at the earliest.
const KEEPALIVE: u16 = 25;

/// The tunnel device, as far as plans depend on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tunnel {
    /// Index of the device.
    pub ifindex: u32,
    /// `from_wireguard` of this build is on it.
    pub attached: bool,
    /// What differs from what is wanted.
    pub changes: Vec<Change>,
    /// Keys with which there is a session.
    pub alive: BTreeSet<PublicKey>,
}

impl Tunnel {
    /// What was seen of the device, which is to be `wanted`.
    pub(super) fn of(seen: &Seen, attached: bool, desired: &Desired, keys: PublicKeys, uplink: u32) -> Self {
        let wanted = wanted(desired, uplink, seen);
        let changes = wanted.map(|wanted| wireguard::changes(&wanted, keys.present, seen)).unwrap_or_default();
        let alive = seen.peers.iter().filter(|(_, peer)| peer.is_alive(seen.at)).map(|(key, _)| *key);
        Self { ifindex: seen.ifindex, attached, changes, alive: alive.collect() }
    }
}

/// Whether there is to be a device: somebody is to be reached.
pub(super) fn is_wanted(desired: &Desired) -> bool {
    desired.node.config.tunnel != TunnelKind::Off && desired.peers.values().any(|peer| key_of(peer).is_some())
}

/// The device as it should be; [`None`]: nobody is to be reached.
fn wanted(desired: &Desired, uplink: u32, seen: &Seen) -> Option<Wanted> {
    let config = &desired.node.config;
    let peers = desired.peers.values().flat_map(|peer| peers_of(peer, seen)).map(|peer| (peer.key, peer));
    is_wanted(desired).then(|| Wanted {
        device: config.tunnel_device.clone(),
        port: config.tunnel_port,
        mtu: inside(uplink),
        peers: peers.collect(),
    })
}

fn key_of(peer: &Peer) -> Option<PublicKey> {
    parse(&peer.name, &peer.tunnel.as_ref()?.key)
}

fn parse(node: &str, key: &str) -> Option<PublicKey> {
    let parsed = key.parse();
    parsed.inspect_err(|error| warn!(node, %error, "The node's public key makes no sense; it cannot be reached.")).ok()
}

/// A node, by each key that it may use: one of them has its addresses.
fn peers_of(peer: &Peer, seen: &Seen) -> Vec<wireguard::Peer> {
    let (Some(tunnel), Some(key)) = (&peer.tunnel, key_of(peer)) else { return Vec::new() };
    let endpoint = Some(tunnel.endpoint);
    let with = |key| wireguard::Peer {
        key,
        endpoint,
        allowed: peer.prefixes.clone(),
        keepalive: Some(KEEPALIVE),
        takes_over: None,
    };
    // Nothing is ever sent to it.
    let without = |key, takes_over| {
        let allowed = BTreeSet::new();
        wireguard::Peer { key, endpoint, allowed, keepalive: None, takes_over }
    };
    match tunnel.next.as_ref().and_then(|next| parse(&peer.name, next)).filter(|next| *next != key) {
        None => vec![with(key)],
        Some(next) if rotation::has_switched(key, next, seen) => vec![with(next), without(key, None)],
        Some(next) => vec![with(key), without(next, Some(key))],
    }
}

/// How other nodes reach this one.
pub(super) fn record(keys: PublicKeys, endpoint: SocketAddr, mtu: u32, desired: &Desired) -> TunnelRecord {
    let (next, rotation) = rotation::told(keys, desired);
    TunnelRecord { key: keys.present.to_string(), endpoint, mtu, next, rotation }
}

/// NODES.
pub(super) fn nodes(desired: &Desired, observed: &Observed) -> BTreeMap<u32, Node> {
    let Some(tunnel) = observed.tunnel.as_ref().filter(|tunnel| tunnel.attached) else { return BTreeMap::new() };
    // Once it has been ready, a device that still waits for a key drops what it cannot send.
    let is_there = |id: &u32| observed.tables.nodes.get(id).is_some_and(|node| node.ifindex == tunnel.ifindex);
    let waits = |id: &u32, key: &str| {
        tunnel.changes.iter().any(|change| match change {
            Change::PutPeer(peer) => peer.key.to_string() == key && !is_there(id),
            Change::SetPrivateKey => !is_there(id),
            Change::SetUp => true,
            _ => false,
        })
    };
    let ready = desired.peers.iter().filter_map(|(id, peer)| {
        let record = peer.tunnel.as_ref().filter(|record| !waits(id, &record.key))?;
        let uplink = record.mtu.min(observed.mtu);
        let uplinks = inside(uplink);
        let mtu = match observed.paths.get(&peer.name) {
            Some(path) if *path < uplink => uplinks.min(inside_path(*path)),
            Some(_) => uplinks,
            // What an earlier daemon has found holds until this one has looked.
            None => observed.tables.nodes.get(id).map_or(uplinks, |node| uplinks.min(node.mtu.max(MTU_MIN))),
        };
        Some((*id, Node { ifindex: tunnel.ifindex, mtu, ..Node::default() }.sealed(id)))
    });
    ready.collect()
}

/// Octets that fit into a tunnel over a way of this MTU.
fn inside(mtu: u32) -> u32 {
    mtu.saturating_sub(OVERHEAD).max(MTU_MIN)
}

/// The same, of a way that is narrower than the device's own: the kernel's WireGuard fills what it sends up to 16 octets
/// (its padding), and stops at the device's MTU alone.
fn inside_path(mtu: u32) -> u32 {
    (mtu.saturating_sub(OVERHEAD) & !15).max(MTU_MIN)
}

/// The ways to the other nodes, to be measured. Whether a daemon is there makes no difference to what gets through.
pub(super) fn paths(desired: &Desired, observed: &Observed) -> impl Iterator<Item = Target> {
    let of = |peer: &Peer| {
        let record = peer.tunnel.as_ref()?;
        Some(Target { node: peer.name.clone(), address: record.endpoint.ip(), mtu: record.mtu.min(observed.mtu) })
    };
    let peers = desired.peers.values().filter(|_| desired.node.config.tunnel != TunnelKind::Off);
    peers.filter_map(of)
}

/// What is missing until the other nodes are reached.
pub(super) fn plan(desired: &Desired, observed: &Observed, ops: &mut Vec<Op>) {
    match (is_wanted(desired), &observed.tunnel) {
        (false, None) => {}
        (false, Some(_)) => ops.push(Op::RemoveTunnel),
        (true, None) => ops.push(Op::MakeTunnel(desired.node.config.tunnel_device.clone())),
        (true, Some(tunnel)) => {
            // Before anything can come in by it.
            if !tunnel.attached {
                ops.push(Op::AttachTunnel(tunnel.ifindex));
            }
            ops.extend(tunnel.changes.iter().cloned().map(Op::ChangeTunnel));
        }
    }
    rotation::plan(desired, observed, ops);
    let (wanted, now) = (nodes(desired, observed), &observed.tables.nodes);
    let gone = now.keys().filter(|id| !wanted.contains_key(id));
    ops.extend(gone.map(|id| Op::DropNode(*id)));
    let puts = wanted.into_iter().filter(|(id, node)| now.get(id) != Some(node));
    ops.extend(puts.map(|(id, node)| Op::PutNode(name_of(desired, id), id, node)));
}

fn name_of(desired: &Desired, id: u32) -> String {
    desired.peers.get(&id).map(|peer| peer.name.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
