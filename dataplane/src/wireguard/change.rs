use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;

use super::{Peer, PeerSeen, PublicKey, Seen, Wanted};

/// One thing to be changed; shown as it is logged, without any secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The device becomes this node's. Sessions that it had as somebody else end.
    SetPrivateKey,
    /// It listens on another UDP port.
    SetPort(u16),
    /// A peer becomes known, or another one. Its prefixes are taken from whoever had them.
    PutPeer(Peer),
    /// A peer is forgotten.
    RemovePeer(PublicKey),
    /// Other packets fit into it; octets.
    SetMtu(u32),
    /// It takes packets from now on.
    SetUp,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetPrivateKey => f.write_str("set the private key"),
            Self::SetPort(port) => write!(f, "listen on UDP port {port}"),
            Self::PutPeer(Peer { key, endpoint, allowed, keepalive, takes_over }) => {
                write!(f, "put the peer {key}")?;
                if let Some(endpoint) = endpoint {
                    write!(f, " at {endpoint}")?;
                }
                let prefixes: Vec<String> = allowed.iter().map(ToString::to_string).collect();
                write!(f, " with {}", if prefixes.is_empty() { "no prefix".to_owned() } else { prefixes.join(", ") })?;
                keepalive.map_or(Ok(()), |seconds| write!(f, ", keepalive {seconds} s"))?;
                takes_over.map_or(Ok(()), |key| write!(f, ", to take over from {key}"))
            }
            Self::RemovePeer(key) => write!(f, "remove the peer {key}"),
            Self::SetMtu(mtu) => write!(f, "set the MTU to {mtu}"),
            Self::SetUp => f.write_str("set it up"),
        }
    }
}

/// What has to be changed, in this order. Nothing when the device is as it should be.
///
/// Who gets a prefix comes before who loses it: the device moves it from one to the other, so that it has an owner all
/// the time.
pub fn changes(wanted: &Wanted, own: PublicKey, seen: &Seen) -> Vec<Change> {
    let mut changes = Vec::new();
    if seen.key != Some(own) {
        changes.push(Change::SetPrivateKey);
    }
    if seen.port != wanted.port {
        changes.push(Change::SetPort(wanted.port));
    }
    if seen.mtu != wanted.mtu {
        changes.push(Change::SetMtu(wanted.mtu));
    }
    let (mut gain, mut others) = (Vec::new(), Vec::new());
    for (key, peer) in &wanted.peers {
        let there = seen.peers.get(key);
        if let Some(put) = put(peer, there, seen) {
            let had = there.map_or(&NO_PREFIX, |there| &there.peer.allowed);
            let gains = put.allowed.difference(had).next().is_some();
            if gains { gain.push(Change::PutPeer(put)) } else { others.push(Change::PutPeer(put)) }
        }
    }
    let gone = seen.peers.keys().filter(|key| !wanted.peers.contains_key(key));
    changes.extend(gain.into_iter().chain(others).chain(gone.copied().map(Change::RemovePeer)));
    if !seen.up {
        changes.push(Change::SetUp);
    }
    changes
}

static NO_PREFIX: BTreeSet<IpNet> = BTreeSet::new();

/// The peer as it has to be put, if it has to be.
///
/// A device learns where a peer is from the peer's own packets, and a NAT may have made another address of it. So while
/// there is a session with it, where it should be according to the store is not held against where it is.
fn put(peer: &Peer, there: Option<&PeerSeen>, seen: &Seen) -> Option<Peer> {
    let Some(there) = there else { return Some(peer.clone()) };
    let endpoint = peer.endpoint.filter(|at| there.peer.endpoint != Some(*at) && !there.is_alive(seen.at));
    let same = there.peer.allowed == peer.allowed && there.peer.keepalive == peer.keepalive;
    (!same || endpoint.is_some()).then(|| Peer { endpoint, ..peer.clone() })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::Kind;
    use super::*;

    fn key(octet: u8) -> PublicKey {
        PublicKey::new([octet; 32])
    }

    fn peer(octet: u8, prefixes: &[&str]) -> Peer {
        Peer {
            key: key(octet),
            endpoint: Some(([192, 0, 2, octet], 51820).into()),
            allowed: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
            keepalive: None,
            takes_over: None,
        }
    }

    fn wanted(peers: Vec<Peer>) -> Wanted {
        let peers = peers.into_iter().map(|peer| (peer.key, peer)).collect();
        Wanted { device: "skep0".to_owned(), port: 51820, mtu: 1420, peers }
    }

    /// A device that was told all of that.
    fn told(wanted: &Wanted) -> Seen {
        let seen = |peer: &Peer| PeerSeen { peer: peer.clone(), last_handshake: None, rx: 0, tx: 0, foreign: Some(0) };
        Seen {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
            kind: Kind::Userspace,
            ifindex: 7,
            up: true,
            mtu: wanted.mtu,
            key: Some(key(0)),
            port: wanted.port,
            foreign: 0,
            peers: wanted.peers.iter().map(|(key, peer)| (*key, seen(peer))).collect(),
        }
    }

    fn lines(wanted: &Wanted, seen: &Seen) -> Vec<String> {
        changes(wanted, key(0), seen).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_as_it_should_be_is_left_alone() {
        let wanted = wanted(vec![peer(1, &["10.1.0.0/24"]), peer(2, &["10.2.0.0/24"])]);
        assert_eq!(lines(&wanted, &told(&wanted)), [""; 0]);
    }

    #[test]
    fn a_new_device_gets_everything_and_goes_up_last() {
        let wanted = wanted(vec![Peer { keepalive: Some(25), ..peer(1, &["10.1.0.0/24", "fd00:1::/64"]) }]);
        let seen = Seen { key: None, port: 0, mtu: 1500, up: false, peers: Default::default(), ..told(&wanted) };
        let put = format!("put the peer {} at 192.0.2.1:51820 with 10.1.0.0/24, fd00:1::/64, keepalive 25 s", key(1));
        assert_eq!(
            lines(&wanted, &seen),
            ["set the private key", "listen on UDP port 51820", "set the MTU to 1420", &put, "set it up"]
        );
    }

    #[test]
    fn one_peers_change_is_no_others() {
        let before = wanted(vec![peer(1, &["10.1.0.0/24"]), peer(2, &["10.2.0.0/24"]), peer(3, &[])]);
        let after = wanted(vec![peer(1, &["10.1.0.0/24", "10.9.0.0/24"]), peer(2, &["10.2.0.0/24"])]);
        let changes = changes(&after, key(0), &told(&before));
        assert_eq!(
            changes,
            [
                Change::PutPeer(Peer { endpoint: None, ..peer(1, &["10.1.0.0/24", "10.9.0.0/24"]) }),
                Change::RemovePeer(key(3))
            ]
        );
    }

    #[test]
    fn who_gets_a_prefix_comes_before_who_loses_it() {
        let before = wanted(vec![peer(1, &["10.1.0.0/24", "10.9.0.0/24"]), peer(2, &[])]);
        let after = wanted(vec![peer(1, &["10.1.0.0/24"]), peer(2, &["10.9.0.0/24"])]);
        let changes = changes(&after, key(0), &told(&before));
        let order: Vec<_> =
            changes.iter().map(|change| matches!(change, Change::PutPeer(put) if put.key == key(2))).collect();
        assert_eq!(order, [true, false]);
        // A key that takes the place of another one, at the end of a rotation.
        let after = wanted(vec![peer(3, &["10.1.0.0/24", "10.9.0.0/24"]), peer(2, &[])]);
        let changes = super::changes(&after, key(0), &told(&before));
        assert!(matches!(changes[..], [Change::PutPeer(_), Change::RemovePeer(gone)] if gone == key(1)), "{changes:?}");
    }

    #[test]
    fn where_a_peer_with_a_session_is_its_own_packets_tell() {
        let wanted = wanted(vec![peer(1, &["10.1.0.0/24"])]);
        let mut seen = told(&wanted);
        let at = seen.at;
        let there = seen.peers.get_mut(&key(1)).unwrap();
        there.peer.endpoint = Some(([203, 0, 113, 5], 4500).into());
        there.last_handshake = Some(at - Duration::from_secs(100));
        assert_eq!(lines(&wanted, &seen), [""; 0]);
        let there = seen.peers.get_mut(&key(1)).unwrap();
        there.last_handshake = Some(at - Duration::from_secs(181));
        assert_eq!(changes(&wanted, key(0), &seen), [Change::PutPeer(peer(1, &["10.1.0.0/24"]))]);
        let there = seen.peers.get_mut(&key(1)).unwrap();
        there.last_handshake = Some(at + Duration::from_secs(3600));
        assert_eq!(lines(&wanted, &seen).len(), 1, "the clock was put back");
    }
}
