use super::super::rotation::tests::{OWN, device, key, observed, two};
use super::*;

/// MTU of the one other node in NODES.
fn mtu(desired: &Desired, observed: &Observed) -> u32 {
    nodes(desired, observed)[&2].mtu
}

#[test]
fn a_node_that_was_reached_stays_in_the_maps_while_keys_change() {
    let mut desired = two();
    let keys = PublicKeys { present: key(9), next: None };
    let mut observed = observed(&desired, keys, &device(key(OWN)));
    assert!(observed.tunnel.as_ref().unwrap().changes.contains(&Change::SetPrivateKey));
    assert_eq!(nodes(&desired, &observed).len(), 0, "the device does not know it");
    let node = Node { ifindex: 7, ..Default::default() };
    observed.tables.nodes.insert(2, node);
    assert_eq!(nodes(&desired, &observed).len(), 1, "it was ready before");
    observed.tables.nodes.insert(2, Node { ifindex: 6, ..node });
    assert_eq!(nodes(&desired, &observed).len(), 0, "another device was");
    desired.peers.clear();
    assert_eq!(nodes(&desired, &observed).len(), 0);
}

#[test]
fn a_node_is_sent_what_its_uplink_and_the_path_take() {
    let desired = two();
    let keys = PublicKeys { present: key(OWN), next: None };
    let mut observed = observed(&desired, keys, &device(key(OWN)));
    observed.tunnel.as_mut().unwrap().changes.clear();
    assert_eq!(mtu(&desired, &observed), 1420, "of the uplinks, as long as nothing is known");
    // What an earlier daemon has found.
    observed.tables.nodes.insert(2, Node { ifindex: 6, mtu: 1312, ..Node::default() });
    assert_eq!(mtu(&desired, &observed), 1312);
    let mut takes = |path: u32| {
        observed.paths.insert("m".into(), path);
        mtu(&desired, &observed)
    };
    assert_eq!(takes(1500), 1420);
    assert_eq!(takes(9000), 1420, "never more than the uplinks");
    // With 80 octets around it, filled up to a multiple of 16.
    assert_eq!([1499, 1404, 1400, 1392].map(&mut takes), [1408, 1312, 1312, 1312]);
    assert_eq!(takes(1300), 1280, "IPv6 knows no less");
    observed.mtu = 1400;
    observed.paths.clear();
    observed.tables.nodes.clear();
    assert_eq!(mtu(&desired, &observed), 1320);
}
