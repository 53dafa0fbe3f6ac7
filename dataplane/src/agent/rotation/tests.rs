use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Parser as _;

use super::super::desired::Node;
use super::super::mesh::{self, Tunnel};
use super::*;
use crate::config::Args;
use crate::wireguard::{self, Kind, PeerSeen, Seen};

pub(in crate::agent) const OWN: u8 = 1;
const OWN_NEXT: u8 = 2;
const OTHER: u8 = 7;
const OTHER_NEXT: u8 = 8;

pub(in crate::agent) fn key(octet: u8) -> PublicKey {
    PublicKey::new([octet; 32])
}

fn record(of: u8) -> TunnelRecord {
    let endpoint = ([192, 0, 2, of], 51820).into();
    TunnelRecord { key: key(of).to_string(), endpoint, mtu: 1500, next: None, rotation: 0 }
}

/// This node and another one, of which this one's record was told.
pub(in crate::agent) fn two() -> Desired {
    let args = Args::try_parse_from(["skepd", "--node-name", "n"]).unwrap();
    let node = Node { name: "n".into(), id: 1, config: Arc::new(args.options.resolve().unwrap()) };
    let prefixes = BTreeSet::from(["10.208.2.0/24".parse().unwrap()]);
    let other = Peer { name: "m".into(), tunnel: Some(record(OTHER)), prefixes, present: true, knows: false };
    let (environments, services, replicas, elsewhere, discards) = Default::default();
    Desired {
        node,
        environments,
        services,
        revision: 0,
        replicas,
        elsewhere,
        peers: BTreeMap::from([(2, other)]),
        tunnels: 0,
        tunnel: Some(record(OWN)),
        rotate: 0,
        discards,
    }
}

/// A device that is told nothing but who it is.
pub(in crate::agent) fn device(key: PublicKey) -> Seen {
    Seen {
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
        kind: Kind::Kernel,
        ifindex: 7,
        up: true,
        mtu: 1420,
        key: Some(key),
        port: 51820,
        foreign: 0,
        peers: BTreeMap::new(),
    }
}

pub(in crate::agent) fn observed(desired: &Desired, keys: PublicKeys, seen: &Seen) -> Observed {
    let tunnel = Tunnel::of(seen, true, desired, keys, 1500);
    Observed { keys: Some(keys), tunnel: Some(tunnel), mtu: 1500, ..Observed::default() }
}

fn steps(desired: &Desired, observed: &Observed) -> Vec<Op> {
    let mut ops = Vec::new();
    plan(desired, observed, &mut ops);
    ops
}

/// Files, device, record and the other node: all that there is of a change of keys.
#[derive(Clone)]
struct World {
    desired: Desired,
    keys: PublicKeys,
    device: Seen,
}

impl World {
    fn new() -> Self {
        let keys = PublicKeys { present: key(OWN), next: None };
        Self { desired: Desired { rotate: 1, ..two() }, keys, device: device(key(OWN)) }
    }

    fn record(&self) -> &TunnelRecord {
        self.desired.tunnel.as_ref().unwrap()
    }

    /// One look of a daemon that dies after `effects` of what it would do; whether it would have done more.
    fn look(&mut self, effects: usize) -> bool {
        let observed = observed(&self.desired, self.keys, &self.device);
        let mut ops = observed.tunnel.as_ref().unwrap().changes.clone();
        ops.retain(|change| *change == Change::SetPrivateKey);
        let mut ops: Vec<Op> = ops.into_iter().map(Op::ChangeTunnel).collect();
        plan(&self.desired, &observed, &mut ops);
        for (done, op) in ops.iter().enumerate() {
            if done == effects {
                return true;
            }
            match op {
                Op::MakeNextKey => self.keys.next = Some(key(OWN_NEXT)),
                Op::SwitchKey => self.keys = PublicKeys { present: self.keys.next.unwrap(), next: None },
                Op::ChangeTunnel(Change::SetPrivateKey) => self.device.key = Some(self.keys.present),
                other => panic!("{other}"),
            }
        }
        let told = mesh::record(self.keys, self.record().endpoint, 1500, &self.desired);
        if ops.len() == effects || told == *self.record() {
            return told != *self.record();
        }
        self.desired.tunnel = Some(told);
        // Whoever has to know has to be told of this record anew.
        self.desired.peers.values_mut().for_each(|peer| peer.knows = false);
        false
    }
}

#[test]
fn a_key_is_made_told_known_and_only_then_used() {
    let mut world = World::new();
    let line = |world: &World| {
        let observed = observed(&world.desired, world.keys, &world.device);
        steps(&world.desired, &observed).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(line(&World { desired: two(), ..world.clone() }), [""; 0], "nobody wants it");
    assert_eq!(line(&world), ["make the next private key"]);
    world.look(usize::MAX);
    assert_eq!((world.record().next.clone(), world.record().rotation), (Some(key(OWN_NEXT).to_string()), 0));
    assert_eq!(line(&world), [""; 0], "the other node does not know it");
    world.desired.peers.values_mut().for_each(|peer| peer.knows = true);
    assert_eq!(line(&world), ["take the next private key for the present one", "tunnel: set the private key"]);
    world.look(usize::MAX);
    assert_eq!(world.record(), &TunnelRecord { key: key(OWN_NEXT).to_string(), rotation: 1, ..record(OWN) });
    assert_eq!(line(&world), [""; 0], "it is done");
}

#[test]
fn who_is_away_is_waited_for_as_long_as_its_tunnel_is_there() {
    let mut world = World::new();
    world.look(usize::MAX);
    let is_ready = |world: &World| {
        let observed = observed(&world.desired, world.keys, &world.device);
        steps(&world.desired, &observed).contains(&Op::SwitchKey)
    };
    assert!(!is_ready(&world), "its daemon is there");
    world.desired.peers.get_mut(&2).unwrap().present = false;
    assert!(is_ready(&world), "nothing of it is");
    let peer = mesh_peer(OTHER, &["10.208.2.0/24"]);
    let session = |age| Some(world.device.at - Duration::from_secs(age));
    let (fresh, stale) = (session(100), session(181));
    let seen = |last_handshake| PeerSeen { peer: peer.clone(), last_handshake, rx: 0, tx: 0, foreign: None };
    world.device.peers.insert(key(OTHER), seen(fresh));
    assert!(!is_ready(&world), "its tunnel is there");
    world.device.peers.insert(key(OTHER), seen(stale));
    assert!(is_ready(&world), "its tunnel was there");
}

/// Whatever the daemon dies after, the next one finishes, and at no time does the device use a key that the others
/// cannot know.
#[test]
fn every_interruption_is_finished() {
    for first in 0..4 {
        for second in 0..4 {
            let mut world = World::new();
            let mut deaths = [first, second].into_iter();
            for look in 0.. {
                assert!(look < 12, "it does not end");
                let before = world.record().clone();
                world.look(deaths.next().unwrap_or(usize::MAX));
                let used = world.device.key.unwrap().to_string();
                assert!(used == before.key || before.next.as_ref() == Some(&used), "{used} was never told");
                if world.record().rotation == 1 {
                    break;
                }
                // The other node carries the record out.
                world.desired.peers.values_mut().for_each(|peer| peer.knows = true);
            }
            assert_eq!(world.keys, PublicKeys { present: key(OWN_NEXT), next: None });
            assert_eq!(world.device.key, Some(key(OWN_NEXT)));
            assert_eq!(world.record(), &TunnelRecord { key: key(OWN_NEXT).to_string(), rotation: 1, ..record(OWN) });
        }
    }
}

#[test]
fn files_that_a_power_cut_took_back_follow_the_record() {
    let mut world = World::new();
    world.desired.tunnel = Some(TunnelRecord { rotation: 1, ..record(OWN_NEXT) });
    world.keys.next = Some(key(OWN_NEXT));
    world.look(usize::MAX);
    assert_eq!((world.keys.present, world.device.key), (key(OWN_NEXT), Some(key(OWN_NEXT))));
    assert_eq!(world.record(), &TunnelRecord { rotation: 1, ..record(OWN_NEXT) });
}

#[test]
fn a_key_that_somebody_took_away_is_as_good_as_changed() {
    let mut world = World::new();
    world.keys.present = key(9);
    world.look(usize::MAX);
    assert_eq!(
        world.record(),
        &TunnelRecord { rotation: 1, ..TunnelRecord { key: key(9).to_string(), ..record(OWN) } }
    );
}

fn mesh_peer(of: u8, prefixes: &[&str]) -> wireguard::Peer {
    wireguard::Peer {
        key: key(of),
        endpoint: Some(([192, 0, 2, OTHER], 51820).into()),
        allowed: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
        keepalive: (!prefixes.is_empty()).then_some(25),
        takes_over: None,
    }
}

/// What this node's device is told while another node's key changes.
#[test]
fn the_addresses_of_another_node_are_moved_when_it_uses_its_next_key() {
    const PREFIX: &str = "10.208.2.0/24";
    let keys = PublicKeys { present: key(OWN), next: None };
    let mut desired = two();
    let mut seen = device(key(OWN));
    let at = seen.at;
    let told = |peer: wireguard::Peer, ago: Option<u64>| PeerSeen {
        peer,
        last_handshake: ago.map(|ago| at - Duration::from_secs(ago)),
        rx: 0,
        tx: 0,
        foreign: None,
    };
    let changes = |desired: &Desired, seen: &Seen| Tunnel::of(seen, true, desired, keys, 1500).changes;
    seen.peers.insert(key(OTHER), told(mesh_peer(OTHER, &[PREFIX]), Some(5)));
    assert_eq!(changes(&desired, &seen), []);

    desired.peers.get_mut(&2).unwrap().tunnel.as_mut().unwrap().next = Some(key(OTHER_NEXT).to_string());
    let known = wireguard::Peer { takes_over: Some(key(OTHER)), ..mesh_peer(OTHER_NEXT, &[]) };
    assert_eq!(changes(&desired, &seen), [Change::PutPeer(known)]);
    seen.peers.insert(key(OTHER_NEXT), told(mesh_peer(OTHER_NEXT, &[]), None));
    assert_eq!(changes(&desired, &seen), [], "it does not use it yet");

    // Its daemon may be gone by now: what the device shows is enough.
    seen.peers.insert(key(OTHER_NEXT), told(mesh_peer(OTHER_NEXT, &[]), Some(1)));
    let moved = [(OTHER_NEXT, &[PREFIX][..]), (OTHER, &[])];
    let moved = moved.map(|(of, prefixes)| wireguard::Peer { endpoint: None, ..mesh_peer(of, prefixes) });
    assert_eq!(changes(&desired, &seen), moved.clone().map(Change::PutPeer));
    // A device that moves them by itself is not told to put them back.
    seen.peers.insert(key(OTHER_NEXT), told(mesh_peer(OTHER_NEXT, &[PREFIX]), Some(9)));
    seen.peers.insert(key(OTHER), told(mesh_peer(OTHER, &[]), Some(5)));
    assert_eq!(changes(&desired, &seen), []);

    desired.peers.get_mut(&2).unwrap().tunnel =
        Some(TunnelRecord { key: key(OTHER_NEXT).to_string(), ..record(OTHER) });
    assert_eq!(changes(&desired, &seen), [Change::RemovePeer(key(OTHER))]);
}
