//! The tunnels to the other nodes: what they should be, and how the maps lead into them.
//!
//! A node is in NODES when its tunnel is ready for it: the device is there, `from_wireguard` is on it, and it knows the
//! peer. Until then what is sent there is dropped, and counted as such; nothing ever takes another way.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dataplane_ebpf::abi::{Node, Sealed as _};
use tracing::warn;

use super::desired::{Desired, Peer};
use super::observed::Observed;
use super::op::Op;
use crate::config::TunnelKind;
use crate::model::TunnelRecord;
use crate::wireguard::{self, Change, PublicKey, Wanted};

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
}

/// The device as it should be; [`None`]: nobody is to be reached.
pub(super) fn wanted(desired: &Desired, uplink: u32) -> Option<Wanted> {
    let config = &desired.node.config;
    if config.tunnel == TunnelKind::Off {
        return None;
    }
    let peers: BTreeMap<PublicKey, _> = desired.peers.values().filter_map(peer_of).collect();
    let device = config.tunnel_device.clone();
    (!peers.is_empty()).then(|| Wanted { device, port: config.tunnel_port, mtu: inside(uplink), peers })
}

fn peer_of(peer: &Peer) -> Option<(PublicKey, wireguard::Peer)> {
    let tunnel = peer.tunnel.as_ref()?;
    let key: PublicKey = match tunnel.key.parse() {
        Ok(key) => key,
        Err(error) => {
            warn!(node = peer.name, %error, "The node's public key makes no sense; it cannot be reached.");
            return None;
        }
    };
    let (endpoint, allowed) = (Some(tunnel.endpoint), peer.prefixes.clone());
    Some((key, wireguard::Peer { key, endpoint, allowed, keepalive: Some(KEEPALIVE) }))
}

/// How other nodes reach this one.
pub(super) fn record(key: PublicKey, address: IpAddr, desired: &Desired, observed: &Observed) -> TunnelRecord {
    let endpoint = (address, desired.node.config.tunnel_port).into();
    TunnelRecord { key: key.to_string(), endpoint, mtu: observed.mtu }
}

/// NODES.
pub(super) fn nodes(desired: &Desired, observed: &Observed) -> BTreeMap<u32, Node> {
    let Some(tunnel) = observed.tunnel.as_ref().filter(|tunnel| tunnel.attached) else { return BTreeMap::new() };
    let waits = |key: &str| {
        tunnel.changes.iter().any(|change| match change {
            Change::PutPeer(peer) => peer.key.to_string() == key,
            Change::SetPrivateKey | Change::SetUp => true,
            _ => false,
        })
    };
    let ready = desired.peers.iter().filter_map(|(id, peer)| {
        let record = peer.tunnel.as_ref().filter(|record| !waits(&record.key))?;
        let mtu = inside(record.mtu.min(observed.mtu));
        Some((*id, Node { ifindex: tunnel.ifindex, mtu, ..Node::default() }.sealed(id)))
    });
    ready.collect()
}

/// Octets that fit into a tunnel over a way of this MTU.
fn inside(mtu: u32) -> u32 {
    mtu.saturating_sub(OVERHEAD).max(MTU_MIN)
}

/// What is missing until the other nodes are reached.
pub(super) fn plan(desired: &Desired, observed: &Observed, ops: &mut Vec<Op>) {
    match (wanted(desired, observed.mtu), &observed.tunnel) {
        (None, None) => {}
        (None, Some(_)) => ops.push(Op::RemoveTunnel),
        (Some(wanted), None) => ops.push(Op::MakeTunnel(wanted.device)),
        (Some(_), Some(tunnel)) => {
            // Before anything can come in by it.
            if !tunnel.attached {
                ops.push(Op::AttachTunnel(tunnel.ifindex));
            }
            ops.extend(tunnel.changes.iter().cloned().map(Op::ChangeTunnel));
        }
    }
    let (wanted, now) = (nodes(desired, observed), &observed.tables.nodes);
    let gone = now.keys().filter(|id| !wanted.contains_key(id));
    ops.extend(gone.map(|id| Op::DropNode(*id)));
    let puts = wanted.into_iter().filter(|(id, node)| now.get(id) != Some(node));
    ops.extend(puts.map(|(id, node)| Op::PutNode(name_of(desired, id), id, node)));
}

fn name_of(desired: &Desired, id: u32) -> String {
    desired.peers.get(&id).map(|peer| peer.name.clone()).unwrap_or_default()
}
