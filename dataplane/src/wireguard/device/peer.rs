use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use defguard_boringtun::noise::{Tunn, TunnResult};
use x25519_dalek::PublicKey as RawPublicKey;

use super::Own;
use super::burst::Burst;
use super::sockets::Sockets;
use crate::wireguard::PublicKey;

/// Another node.
pub(super) struct Peer {
    pub(super) key: PublicKey,
    /// What its packets carry: 24 bits, the first of those that name a session of it.
    pub(super) index: u32,
    tunn: Mutex<Tunn>,
    whereabouts: Mutex<Whereabouts>,
    /// Seconds; 0 for none.
    keepalive: AtomicU16,
    foreign: AtomicU64,
    /// Whose prefixes it gets when it is heard of.
    takes_over: Mutex<Option<PublicKey>>,
}

struct Whereabouts {
    endpoint: Option<SocketAddr>,
    /// When anything authentic last went either way.
    heard: Instant,
    handshake: Option<SystemTime>,
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}

impl Peer {
    /// Of this node; `index` is no other peer's.
    pub(super) fn new(key: PublicKey, own: &Own, index: u32) -> Self {
        let public = RawPublicKey::from(*key.octets());
        // Keepalives are ours: the session's own can't be changed.
        let tunn = Tunn::new(own.private.secret().clone(), public, None, None, index, Some(Arc::clone(&own.limiter)));
        let whereabouts = Whereabouts { endpoint: None, heard: Instant::now(), handshake: None };
        Self {
            key,
            index,
            tunn: Mutex::new(tunn),
            whereabouts: Mutex::new(whereabouts),
            keepalive: AtomicU16::new(0),
            foreign: AtomicU64::new(0),
            takes_over: Mutex::new(None),
        }
    }

    pub(super) fn tunn(&self) -> MutexGuard<'_, Tunn> {
        self.tunn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn whereabouts(&self) -> MutexGuard<'_, Whereabouts> {
        self.whereabouts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node is somebody else from now on: its sessions end.
    pub(super) fn renew(&self, own: &Own) {
        self.tunn().set_static_private(own.private.secret().clone(), own.public, Some(Arc::clone(&own.limiter)));
    }

    /// Sends a message to where it is; to nobody when that is not known.
    pub(super) fn send(&self, sockets: &Sockets, message: &[u8]) {
        let mut whereabouts = self.whereabouts();
        let Some(endpoint) = whereabouts.endpoint else { return };
        whereabouts.heard = Instant::now();
        drop(whereabouts);
        sockets.send(message, endpoint);
    }

    /// As [`Self::send`], for what has gathered.
    pub(super) fn send_all(&self, sockets: &Sockets, burst: &mut Burst) {
        let mut whereabouts = self.whereabouts();
        let endpoint = whereabouts.endpoint;
        whereabouts.heard = Instant::now();
        drop(whereabouts);
        if let Some(endpoint) = endpoint {
            burst.runs(|messages, len| sockets.send_run(messages, len, endpoint));
        }
        burst.clear();
    }

    /// It is where its authentic message came from.
    pub(super) fn learn(&self, from: SocketAddr) {
        let mut whereabouts = self.whereabouts();
        whereabouts.endpoint = Some(from);
        whereabouts.heard = Instant::now();
    }

    pub(super) fn endpoint(&self) -> Option<SocketAddr> {
        self.whereabouts().endpoint
    }

    pub(super) fn set_endpoint(&self, endpoint: SocketAddr) {
        self.whereabouts().endpoint = Some(endpoint);
    }

    pub(super) fn keepalive(&self) -> u16 {
        self.keepalive.load(Ordering::Relaxed)
    }

    pub(super) fn set_keepalive(&self, seconds: u16) {
        self.keepalive.store(seconds, Ordering::Relaxed);
    }

    pub(super) fn takes_over(&self) -> Option<PublicKey> {
        *self.takes_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_takes_over(&self, before: Option<PublicKey>) {
        *self.takes_over.lock().unwrap_or_else(PoisonError::into_inner) = before;
    }

    pub(super) fn count_foreign(&self) {
        self.foreign.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn foreign(&self) -> u64 {
        self.foreign.load(Ordering::Relaxed)
    }

    /// When a session was last agreed on; remembered when that is over.
    pub(super) fn handshake(&self) -> Option<SystemTime> {
        let since = self.tunn().time_since_last_handshake();
        let mut whereabouts = self.whereabouts();
        if let Some(then) = since.and_then(|since| SystemTime::now().checked_sub(since)) {
            // The same one is a little later or earlier each time that it is computed.
            let near = |known: SystemTime| {
                let apart = then.duration_since(known).or_else(|_| known.duration_since(then));
                apart.is_ok_and(|apart| apart < Duration::from_secs(1))
            };
            if !whereabouts.handshake.is_some_and(near) {
                whereabouts.handshake = Some(then);
            }
        }
        whereabouts.handshake
    }

    /// Asks for a session now, if there is none; `anew`: even if one was asked for already.
    pub(super) fn greet(&self, sockets: &Sockets, anew: bool, out: &mut [u8]) {
        let mut tunn = self.tunn();
        if tunn.time_since_last_handshake().is_none()
            && let TunnResult::WriteToNetwork(message) = tunn.format_handshake_initiation(out, anew)
        {
            self.send(sockets, message);
        }
    }

    /// What is due by now.
    pub(super) fn tick(&self, sockets: &Sockets, out: &mut [u8]) {
        if self.endpoint().is_none() {
            return;
        }
        if let TunnResult::WriteToNetwork(message) = self.tunn().update_timers(out) {
            self.send(sockets, message);
        }
        let _remembered = self.handshake();
        let keepalive = Duration::from_secs(self.keepalive().into());
        if keepalive.is_zero() || self.whereabouts().heard.elapsed() < keepalive {
            return;
        }
        let mut tunn = self.tunn();
        let message = match tunn.time_since_last_handshake() {
            Some(_) => tunn.encapsulate(&[], out),
            None => tunn.format_handshake_initiation(out, false),
        };
        if let TunnResult::WriteToNetwork(message) = message {
            self.send(sockets, message);
        }
    }
}
