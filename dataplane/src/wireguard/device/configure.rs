use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use zeroize::Zeroizing;

use super::uapi::{PeerSetting, Request, Setting, parse};
use super::{Device, Own, PACKET_MAX, Peer, Sockets, State};
use crate::random;
use crate::wireguard::PublicKey;
use crate::wireguard::key::hex;

impl Device {
    /// Does what a client asks for, and gives the answer.
    pub(in super::super) fn answer(self: &Arc<Self>, request: &str) -> String {
        let (mut answer, errno) = match parse(request) {
            None => (String::new(), libc::EINVAL),
            Some(Request::Get) => (self.describe(), 0),
            Some(Request::Set(settings)) => {
                let done = settings.into_iter().try_for_each(|setting| self.set(setting));
                (String::new(), done.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EINVAL)))
            }
        };
        let _infallible = writeln!(answer, "errno={errno}\n");
        answer
    }

    fn set(self: &Arc<Self>, setting: Setting) -> io::Result<()> {
        match setting {
            Setting::PrivateKey(key) => {
                let mut state = self.write();
                if state.own.as_ref().is_none_or(|own| own.private.public() != key.public()) {
                    let own = Own::new(key);
                    state.peers.values().for_each(|peer| peer.renew(&own));
                    // A node is no peer of its own.
                    state.remove(own.private.public());
                    state.own = Some(own);
                    // Who waits for this key is not kept waiting until there is something to send.
                    let mut out = vec![0; PACKET_MAX];
                    for peer in state.peers.values().filter(|peer| state.routes.of(peer).next().is_some()) {
                        state.sockets.iter().for_each(|sockets| peer.greet(sockets, true, &mut out));
                    }
                }
                Ok(())
            }
            Setting::Port(port) => self.set_port(port),
            Setting::ReplacePeers => {
                let mut state = self.write();
                let keys: Vec<PublicKey> = state.peers.keys().copied().collect();
                keys.into_iter().for_each(|key| state.remove(key));
                Ok(())
            }
            Setting::Peer(PeerSetting { key, remove: true, .. }) => {
                self.write().remove(key);
                Ok(())
            }
            Setting::Peer(setting) => self.set_peer(setting),
        }
    }

    fn set_port(self: &Arc<Self>, port: u16) -> io::Result<()> {
        if self.read().sockets.as_ref().is_some_and(|sockets| sockets.port == port) {
            return Ok(());
        }
        let sockets = Arc::new(Sockets::open(port)?);
        let before = self.write().sockets.replace(Arc::clone(&sockets));
        if let Some(before) = before {
            before.retire();
        }
        [false, true].into_iter().filter(|ipv6| sockets.has(*ipv6)).try_for_each(|ipv6| self.listen(&sockets, ipv6))
    }

    fn set_peer(&self, setting: PeerSetting) -> io::Result<()> {
        let mut state = self.write();
        let known = state.peers.get(&setting.key).cloned();
        let is_new = known.is_none();
        let peer = match known {
            Some(peer) => peer,
            None if setting.update_only => return Ok(()),
            None => state.add(setting.key)?,
        };
        if let Some(endpoint) = setting.endpoint {
            peer.set_endpoint(endpoint);
        }
        if let Some(seconds) = setting.keepalive {
            peer.set_keepalive(seconds);
        }
        if setting.replace_allowed {
            state.routes.remove(&peer);
        }
        setting.allowed.into_iter().for_each(|prefix| state.routes.put(prefix, Arc::clone(&peer)));
        if setting.takes_over.is_some() {
            peer.set_takes_over(setting.takes_over);
        }
        // Who has to be told now and again that this node is there is told at once; and a new peer, which may use a session
        // with an earlier process: left alone, it notices after a quarter of a minute. One without addresses is nobody yet.
        if (is_new && state.routes.of(&peer).next().is_some() || peer.keepalive() > 0)
            && let Some(sockets) = &state.sockets
        {
            peer.greet(sockets, false, &mut vec![0; PACKET_MAX]);
        }
        Ok(())
    }

    /// All that a client may know.
    fn describe(&self) -> String {
        let state = self.read();
        let mut text = String::new();
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            let _infallible = writeln!(text, "{key}={value}");
        };
        if let Some(own) = &state.own {
            line("own_public_key", &*hex(own.private.public().octets()));
        }
        line("listen_port", &state.sockets.as_ref().map_or(0, |sockets| sockets.port));
        line("foreign_packets", &self.foreign.load(Ordering::Relaxed));
        for peer in state.peers.values() {
            line("public_key", &*hex(peer.key.octets()));
            if let Some(endpoint) = peer.endpoint() {
                line("endpoint", &endpoint);
            }
            line("persistent_keepalive_interval", &peer.keepalive());
            state.routes.of(peer).for_each(|prefix| line("allowed_ip", prefix));
            let handshake = peer.handshake().and_then(|then| then.duration_since(UNIX_EPOCH).ok());
            if let Some(then) = handshake {
                line("last_handshake_time_sec", &then.as_secs());
                line("last_handshake_time_nsec", &then.subsec_nanos());
            }
            let (_, tx, rx, ..) = peer.tunn().stats();
            line("rx_bytes", &rx);
            line("tx_bytes", &tx);
            line("foreign_packets", &peer.foreign());
        }
        text
    }
}

impl State {
    fn add(&mut self, key: PublicKey) -> io::Result<Arc<Peer>> {
        let own = self.own.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOKEY))?;
        if own.private.public() == key {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let index = loop {
            let octets = Zeroizing::new(random::octets::<4>().map_err(io::Error::other)?);
            let index = u32::from_ne_bytes(*octets) >> 8;
            if !self.indices.contains_key(&index) {
                break index;
            }
        };
        let peer = Arc::new(Peer::new(key, own, index));
        self.peers.insert(key, Arc::clone(&peer));
        self.indices.insert(index, Arc::clone(&peer));
        Ok(peer)
    }

    /// The peer that has waited for it has been heard of: it is its predecessor from now on.
    pub(super) fn take_over(&mut self, peer: &Arc<Peer>) {
        // It may have been removed, or told otherwise, meanwhile.
        let before = self.peers.get(&peer.key).filter(|now| *now == peer).and_then(|_| peer.takes_over());
        peer.set_takes_over(None);
        let Some(before) = before.and_then(|before| self.peers.get(&before)).cloned() else { return };
        let prefixes: Vec<_> = self.routes.of(&before).copied().collect();
        prefixes.into_iter().for_each(|prefix| self.routes.put(prefix, Arc::clone(peer)));
    }

    fn remove(&mut self, key: PublicKey) {
        if let Some(peer) = self.peers.remove(&key) {
            self.indices.remove(&peer.index);
            self.routes.remove(&peer);
        }
    }
}
