//! Tunnels to the other nodes: one WireGuard device, and what it is told.
//!
//! The kernel's device where the kernel has WireGuard; else the userspace device, [`process`] (`skepd tunnel`), a process
//! of its own that outlives the daemon and is adopted by the next one. [`Tunnel`] makes either, looks at it and changes
//! it; what has to be changed is the difference of [`Wanted`] and [`Seen`] ([`changes`], which is pure). A device that is
//! alive is never configured anew as a whole: sessions with peers that stay as they are go on.
//!
//! The private key is made on this node, never leaves it, and reaches the device by netlink or by a socket that is
//! root's alone. So does its successor, which takes its place by a rename.
//!
//! [`device`] is ours, over the protocol of boringtun (`noise`), because the device around that, which
//! defguard_wireguard_rs starts, cannot change a peer (its thread panics, and everything hangs), listens in a directory
//! that all network namespaces share, lets whoever stalls on its socket stall every packet, reads no more than the MTU
//! that the device was made with, and does not count what a peer sends from an address that is not its own.

mod change;
mod device;
mod error;
mod kernel;
mod key;
mod keys;
mod process;
mod tunnel;
mod userspace;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

pub use self::change::{Change, changes};
pub use self::error::{KeyError, ProcessError, WireguardError};
pub use self::key::{PrivateKey, PublicKey};
pub use self::keys::{NEXT_KEY_FILE, PRIVATE_KEY_FILE, PublicKeys};
pub use self::process::run;
pub use self::tunnel::{Tunnel, remove};

/// After that long without a handshake no session is left (`REJECT_AFTER_TIME` of the protocol).
pub const SESSION_MAX: Duration = Duration::from_secs(180);

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The kernel's own.
    Kernel,
    /// A TUN device, served by `skepd tunnel`.
    Userspace,
}

/// Another node, as the device is to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub key: PublicKey,
    /// Where it is reached; `None` leaves it to its own packets to tell.
    pub endpoint: Option<SocketAddr>,
    /// Its addresses: what is sent to it, and the only sources that are taken from it.
    pub allowed: BTreeSet<IpNet>,
    /// Seconds after which it is sent an empty packet when nothing else was, for the sake of a NAT on the way.
    pub keepalive: Option<u16>,
    /// The key whose addresses it gets as soon as it is heard of: the same node's, which is about to change it. The kernel's
    /// device does not know such a thing: there whoever configures it moves them.
    pub takes_over: Option<PublicKey>,
}

/// A device as it should be; the private key apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub device: String,
    /// UDP port, for all addresses of the node.
    pub port: u16,
    /// Octets of an IP packet that fit into it.
    pub mtu: u32,
    /// The other nodes.
    pub peers: BTreeMap<PublicKey, Peer>,
}

/// A device as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When it was looked at.
    pub at: SystemTime,
    /// What it is.
    pub kind: Kind,
    /// Index of the device.
    pub ifindex: u32,
    /// Whether it takes packets.
    pub up: bool,
    /// Octets of an IP packet that fit into it.
    pub mtu: u32,
    /// Whose it is; `None` until it has been told.
    pub key: Option<PublicKey>,
    /// UDP port; 0 until it has been told.
    pub port: u16,
    /// Packets that were authentic and yet from an address that is not their sender's, since the device was made: a node
    /// that forges. The kernel counts packets that are no IP packets with them.
    pub foreign: u64,
    /// The other nodes.
    pub peers: BTreeMap<PublicKey, PeerSeen>,
}

/// Another node, as the device knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSeen {
    /// What it was told, or has learned.
    pub peer: Peer,
    /// When a session was last agreed on.
    pub last_handshake: Option<SystemTime>,
    /// Octets that it has sent, encrypted.
    pub rx: u64,
    /// Octets that it was sent, encrypted.
    pub tx: u64,
    /// Its share of [`Seen::foreign`]; the kernel does not tell.
    pub foreign: Option<u64>,
}

impl PeerSeen {
    /// Whether there was a session with it at that time.
    pub fn is_alive(&self, at: SystemTime) -> bool {
        // A handshake in the future is one before the clock was put back.
        self.last_handshake.is_some_and(|then| at.duration_since(then).is_ok_and(|age| age < SESSION_MAX))
    }
}
