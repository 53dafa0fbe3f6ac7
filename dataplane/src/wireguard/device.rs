//! The userspace device: packets of a TUN device, encrypted to and from the peers by boringtun's `noise`.
//!
//! A thread for each direction and family, and one for the timers; what they share is read by all and changed by whoever
//! configures. Packets of one peer go through its own lock in the order in which they came, so none overtakes another.
//!
//! From the host, segments of a TCP connection come as one packet ([`split`]), go to the peer by one system call
//! ([`burst`]), are received by one, and are one packet for the host there again ([`merge`]). On the wire nothing differs.

mod burst;
mod configure;
mod merge;
mod offload;
mod peer;
mod routes;
mod sockets;
mod split;
mod tun;
mod uapi;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::Duration;

use defguard_boringtun::noise::handshake::parse_handshake_anon;
use defguard_boringtun::noise::rate_limiter::RateLimiter;
use defguard_boringtun::noise::{Packet, Tunn, TunnResult};
use x25519_dalek::PublicKey as RawPublicKey;

use self::burst::Burst;
use self::merge::Merge;
use self::offload::OFFLOAD_LEN;
use self::peer::Peer;
use self::routes::Routes;
use self::sockets::Sockets;
use self::split::split;
pub(super) use self::tun::Tun;
use super::{PrivateKey, PublicKey};

/// The longest packet, and as much as the protocol puts around it.
const PACKET_MAX: usize = 65_535 + 32;
/// How often timers are looked at; those of the protocol are of whole seconds.
const TICK: Duration = Duration::from_millis(250);
/// Handshakes a second beyond which a sender has to prove its address. The limiter counts each twice: when its sender is
/// looked for, and when the session checks it.
const HANDSHAKES_MAX: u64 = 200;
/// The type of a cookie reply: the one answer that proves nothing about who was answered.
const COOKIE_REPLY: u8 = 3;

/// A device with its peers.
pub(super) struct Device {
    tun: Tun,
    state: RwLock<State>,
    /// Authentic packets from an address that is not their sender's, of all peers that there ever were.
    foreign: AtomicU64,
    /// Who is told when a thread ends that should not.
    ended: Sender<&'static str>,
}

#[derive(Default)]
struct State {
    own: Option<Own>,
    sockets: Option<Arc<Sockets>>,
    peers: HashMap<PublicKey, Arc<Peer>>,
    /// By the index that their packets carry.
    indices: HashMap<u32, Arc<Peer>>,
    routes: Routes<Arc<Peer>>,
}

/// Who this node is.
struct Own {
    private: PrivateKey,
    public: RawPublicKey,
    limiter: Arc<RateLimiter>,
}

impl Own {
    fn new(private: PrivateKey) -> Self {
        let public = RawPublicKey::from(*private.public().octets());
        Self { private, public, limiter: Arc::new(RateLimiter::new(&public, HANDSHAKES_MAX)) }
    }
}

impl Device {
    /// Serves `tun` from now on; `ended` hears of each part that ends.
    pub(super) fn start(tun: Tun, ended: Sender<&'static str>) -> io::Result<Arc<Self>> {
        let device = Arc::new(Self { tun, state: RwLock::default(), foreign: AtomicU64::new(0), ended });
        device.spawn("way out", |device| device.outward())?;
        device.spawn("clock", Self::tick)?;
        Ok(device)
    }

    /// A thread that must not end by itself.
    fn spawn(self: &Arc<Self>, part: &'static str, work: impl FnOnce(&Self) + Send + 'static) -> io::Result<()> {
        let device = Arc::clone(self);
        let work = move || {
            let _tells = Tells(part, device.ended.clone());
            work(&device);
        };
        thread::Builder::new().name(part.to_owned()).spawn(work).map(drop)
    }

    /// A thread for what comes by one family's socket, until another socket takes its place.
    fn listen(self: &Arc<Self>, sockets: &Arc<Sockets>, ipv6: bool) -> io::Result<()> {
        let (device, sockets) = (Arc::clone(self), Arc::clone(sockets));
        let work = move || {
            let tells = Tells("way in", device.ended.clone());
            device.inward(&sockets, ipv6);
            std::mem::forget(tells);
        };
        thread::Builder::new().name("way in".to_owned()).spawn(work).map(drop)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the host to the peers.
    fn outward(&self) {
        let (mut read, mut burst) = (vec![0; OFFLOAD_LEN + PACKET_MAX], Burst::default());
        // The device was removed by somebody when it cannot be read any more.
        while let Ok(length) = self.tun.read(&mut read) {
            let Some((offload, packet)) = read[..length].split_first_chunk_mut::<OFFLOAD_LEN>() else { continue };
            let Some(to) = Tunn::dst_address(packet) else { continue };
            let state = self.read();
            let (Some(peer), Some(sockets)) = (state.routes.find(to), &state.sockets) else { continue };
            let mut tunn = peer.tunn();
            let _whole = split(&(*offload).into(), packet, |packet| {
                if let TunnResult::WriteToNetwork(message) = tunn.encapsulate(packet, burst.room()) {
                    let len = message.len();
                    burst.took(len);
                }
                if burst.is_full() {
                    peer.send_all(sockets, &mut burst);
                }
            });
            if !burst.is_empty() {
                peer.send_all(sockets, &mut burst);
            }
        }
    }

    /// From the peers to the host.
    fn inward(&self, sockets: &Arc<Sockets>, ipv6: bool) {
        let (mut datagrams, mut out, mut merge) = (vec![0; PACKET_MAX], vec![0; PACKET_MAX], Merge::default());
        loop {
            let received = sockets.receive(ipv6, &mut datagrams);
            let state = self.read();
            if !state.sockets.as_ref().is_some_and(|now| Arc::ptr_eq(now, sockets)) {
                return;
            }
            // An error tells of an earlier datagram that was sent, which is not waited for.
            let Ok((length, each, from)) = received else { continue };
            let mut successors = Vec::new();
            for datagram in datagrams[..length].chunks(each.max(1)) {
                successors.extend(self.take(&state, sockets, (datagram, from), &mut out, &mut merge));
            }
            merge.flush(|offload, packet| self.hand_in(offload, packet));
            drop(state);
            for successor in successors {
                self.write().take_over(&successor);
            }
        }
    }

    /// A datagram that has come. Gives its sender when that is to take over from another peer.
    fn take(
        &self,
        state: &State,
        sockets: &Sockets,
        (datagram, from): (&[u8], SocketAddr),
        out: &mut [u8],
        merge: &mut Merge,
    ) -> Option<Arc<Peer>> {
        let own = state.own.as_ref()?;
        let packet = match own.limiter.verify_packet(Some(from.ip()), datagram, out) {
            Ok(packet) => packet,
            Err(TunnResult::WriteToNetwork(cookie)) => {
                sockets.send(cookie, from);
                return None;
            }
            Err(_) => return None,
        };
        let of_index = |index: u32| state.indices.get(&(index >> 8));
        let (peer, asks) = match &packet {
            Packet::HandshakeInit(init) => {
                let sender = parse_handshake_anon(own.private.secret(), &own.public, init);
                let key = sender.map(|sender| PublicKey::new(sender.peer_static_public));
                (key.ok().and_then(|key| state.peers.get(&key)), true)
            }
            Packet::HandshakeResponse(response) => (of_index(response.receiver_idx), false),
            Packet::PacketCookieReply(reply) => (of_index(reply.receiver_idx), false),
            Packet::PacketData(data) => (of_index(data.receiver_idx), false),
        };
        let peer = peer?;
        let mut tunn = peer.tunn();
        match tunn.decapsulate(Some(from.ip()), datagram, out) {
            TunnResult::Err(_) => return None,
            TunnResult::WriteToNetwork(answer) => {
                sockets.send(answer, from);
                if answer.first() == Some(&COOKIE_REPLY) {
                    return None;
                }
            }
            TunnResult::WriteToTunnelV4(packet, source) => self.deliver(state, peer, (packet, source.into()), merge),
            TunnResult::WriteToTunnelV6(packet, source) => self.deliver(state, peer, (packet, source.into()), merge),
            TunnResult::Done => {}
        }
        peer.learn(from);
        // A session that was only asked for cannot be used to send before its other side has used it.
        while !asks && let TunnResult::WriteToNetwork(waiting) = tunn.decapsulate(None, &[], out) {
            peer.send(sockets, waiting);
        }
        // One that only asks for a session may be somebody else, who repeats what it has heard.
        (!asks && peer.takes_over().is_some()).then(|| Arc::clone(peer))
    }

    /// A packet that a peer has sent, if it is from an address of that peer, or of the one that it takes over from.
    fn deliver(&self, state: &State, peer: &Arc<Peer>, (packet, source): (&[u8], IpAddr), merge: &mut Merge) {
        let owns = |owner: &Arc<Peer>| owner == peer || peer.takes_over() == Some(owner.key);
        if state.routes.find(source).is_some_and(owns) {
            merge.push(packet, |offload, packet| self.hand_in(offload, packet));
        } else {
            peer.count_foreign();
            self.foreign.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A packet for the host, or several in one.
    fn hand_in(&self, offload: [u8; OFFLOAD_LEN], packet: &[u8]) {
        // A device that is down takes nothing.
        let _taken = self.tun.write(offload, packet);
    }

    /// Retries, renewals, keepalives.
    fn tick(&self) {
        let mut out = vec![0; PACKET_MAX];
        loop {
            thread::sleep(TICK);
            let state = self.read();
            if let Some(own) = &state.own {
                own.limiter.reset_count();
            }
            if let Some(sockets) = &state.sockets {
                state.peers.values().for_each(|peer| peer.tick(sockets, &mut out));
            }
        }
    }
}

/// Says which part has ended, when it does.
struct Tells(&'static str, Sender<&'static str>);

impl Drop for Tells {
    fn drop(&mut self) {
        // Nobody listens any more when the process is about to end itself.
        let _heard = self.1.send(self.0);
    }
}

#[cfg(test)]
mod tests;
