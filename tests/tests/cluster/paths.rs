//! Paths that take less than the uplinks at their ends.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::images::Image;
use tests::{Cluster, Container, Node, load, wait_for};

use super::scene;

/// A path is measured anew within that, on a busy computer.
const MEASURED: Duration = Duration::from_secs(120);
/// Octets that a switch of the test takes; a veth adds the four of a VLAN tag.
const NARROW: u32 = 1_400;
const TAG: u32 = 4;
/// Many packets of the largest size, each way.
const OCTETS: usize = 4 << 20;
/// So many that a sender comes to give all that a device takes at once.
const STREAM: usize = 128 << 20;
/// Octets: several packets of the wire's size, acknowledgements included.
const PIECE: u64 = 6_000;

#[test]
fn a_switch_that_drops_long_packets_without_a_word_hangs_nobody() -> Result<()> {
    let cluster = scene::cluster(2, &[Image::Busybox])?;
    let (client, server) = scene::apart(&cluster)?;
    let [first, second] = cluster.nodes() else { unreachable!("two nodes") };
    for (from, to) in [(first, second), (second, first)] {
        wait_for("the path to be measured", MEASURED, || Ok(scene::row(from, to)?["latency"].as_f64()))?;
        let row = scene::row(from, to)?;
        ensure!(row["path_mtu"].is_null(), "the path takes what the uplinks take: {row}");
    }
    there_and_back(&client, &server)?;

    narrow(&cluster, second)?;
    let ping = |octets: u32| {
        let payload = (octets - 28).to_string();
        first.output(&["ping", "-c1", "-W1", "-Mdo", "-s", &payload, second.address4()])
    };
    ensure!(!ping(1_500)?.status.success(), "the switch takes all: the test proves nothing");
    ensure!(ping(NARROW)?.status.success(), "the switch takes too little");
    for (from, to) in [(first, second), (second, first)] {
        let found =
            wait_for("the path to be found narrow", MEASURED, || Ok(scene::row(from, to)?["path_mtu"].as_u64()))?;
        ensure!((NARROW..=NARROW + TAG).contains(&u32::try_from(found)?), "{found} octets, not {NARROW}");
    }
    there_and_back(&client, &server)?;

    // The next daemon does not begin with what the uplinks take.
    for node in cluster.nodes() {
        node.restart_skepd()?;
        there_and_back(&client, &server)?;
    }
    Ok(())
}

/// The port of the node's cable takes less than the uplink at either end. What goes to etcd and back is none of the
/// test's: it knows.
fn narrow(cluster: &Cluster, node: &Node) -> Result<()> {
    let url = cluster.etcd().url();
    let etcd = url.strip_prefix("http://").and_then(|rest| rest.split(':').next()).context("etcd's address")?;
    let route = |to| ["ip", "route", "add", to, "dev", "uplink0", "mtu", "1280"];
    node.run(&route(etcd))?;
    cluster.etcd().machine().run(&route(node.address4()))?;
    cluster.lan().machine().run(&["ip", "link", "set", &scene::port(node), "mtu", &NARROW.to_string()])?;
    Ok(())
}

#[test]
fn a_userspace_tunnel_gets_a_stream_in_pieces_that_it_takes() -> Result<()> {
    let cluster = Cluster::with(2, &["--tunnel", "userspace"])?;
    cluster.nodes().iter().try_for_each(|node| node.load(&[Image::Busybox]))?;
    let (client, server) = scene::apart(&cluster)?;
    load::there_and_back(&client.netns()?, &server.netns()?, server.address()?.parse()?, STREAM)?;
    let node = &cluster.nodes()[0];
    let sent = |what: &str| -> Result<u64> {
        Ok(node.run(&["cat", &format!("/sys/class/net/skep0/statistics/tx_{what}")])?.trim().parse()?)
    };
    let (octets, packets) = (sent("bytes")?, sent("packets")?);
    ensure!(octets > STREAM as u64, "{octets} octets went another way");
    ensure!(octets / packets > PIECE, "{octets} octets were {packets} packets");
    Ok(())
}

/// A large transfer each way, over each family.
fn there_and_back(client: &Container<'_>, server: &Container<'_>) -> Result<()> {
    for address in [server.address()?, server.address6()?] {
        load::there_and_back(&client.netns()?, &server.netns()?, address.parse()?, OCTETS)
            .with_context(|| format!("{OCTETS} octets to {address} and back"))?;
    }
    Ok(())
}
