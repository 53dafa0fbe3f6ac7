//! Nodes change their keys, and nobody notices.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::images::Image;
use tests::load::Mixture;
use tests::{Cluster, Container, Node, wait_for};

use super::{scene, underlay};

const SOON: Duration = Duration::from_secs(60);
/// What a daemon does that has nothing else to do: it dies after each.
const STEPS: [(&str, &str); 3] = [
    ("after:1", "make the next private key"),
    ("after:2", "take the next private key for the present one"),
    ("after:3", "tunnel: set the private key"),
];

#[test]
fn keys_change_under_load_and_no_connection_is_lost() -> Result<()> {
    let cluster = scene::cluster(2, &[Image::Busybox])?;
    let (client, server) = scene::apart(&cluster)?;
    let [first, second] = cluster.nodes() else { unreachable!("two nodes") };
    let capture = underlay::Capture::start(&cluster)?;
    let load = Mixture::between(&client, &server)?.lossy();
    underlay::talk_while(&client, &server, || {
        load.goes_on()?;
        let before = keys(&cluster)?;
        // Of all nodes, one after the other.
        let said = first.skepctl_output(&["nodes", "rotate-key"])?;
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        for node in cluster.nodes() {
            ensure!(said.contains(&format!("{}: has another key", node.machine().name())), "{said}");
        }
        let after = keys(&cluster)?;
        ensure!(before.iter().all(|key| !after.contains(key)), "{before:?} became {after:?}");
        load.goes_on()?;
        // Of each at once, asked of the other one, and under way when both daemons die.
        for (asked, of) in [(first, second), (second, first)] {
            asked.skepctl(&["nodes", "rotate-key", of.machine().name(), "--no-wait"])?;
        }
        for node in cluster.nodes() {
            node.kill_skepd()?;
        }
        load.goes_on()?;
        for node in cluster.nodes() {
            node.start_skepd()?;
        }
        changed(&cluster, &after)?;
        load.goes_on()
    })?;
    scene::only(&cluster, first)?;
    isolated(first, &server)?;
    load.ends_well()?;
    capture.shows_no_plaintext()
}

#[test]
fn a_daemon_that_dies_anywhere_in_a_change_of_keys_is_followed_by_one_that_finishes() -> Result<()> {
    let cluster = scene::cluster(2, &[Image::Busybox])?;
    let (client, server) = scene::apart(&cluster)?;
    let [first, second] = cluster.nodes() else { unreachable!("two nodes") };
    let load = Mixture::between(&client, &server)?.lossy();
    for (at, op) in STEPS {
        load.goes_on()?;
        let before = keys(&cluster)?;
        ensure!(second.stop_skepd()?.success());
        second.spawn_skepd(&["--abort-at", at])?;
        first.skepctl(&["nodes", "rotate-key", second.machine().name(), "--no-wait"])?;
        wait_for(&format!("its end {at}"), SOON, || Ok(second.skepd_ended()?.map(drop)))?;
        let log = second.skepd_log()?;
        let died = log.lines().rev().find(|line| line.contains("--abort-at says")).context("it died by itself")?;
        ensure!(died.contains(op), "it died at something else: {died}");
        load.goes_on()?;
        second.kill_skepd()?;
        second.start_skepd()?;
        wait_for("another key", SOON, || {
            let row = scene::row(first, second)?;
            Ok((row["key"] != before[1].as_str() && row["rotating"].is_null()).then_some(()))
        })?;
        ensure!(keys(&cluster)?[0] == before[0], "the other node has another key");
    }
    load.goes_on()?;
    load.ends_well()
}

/// Their public keys, in order.
fn keys(cluster: &Cluster) -> Result<Vec<String>> {
    let first = &cluster.nodes()[0];
    let key = |of: &Node| Ok(scene::row(first, of)?["key"].as_str().context("a node has no key")?.to_owned());
    cluster.nodes().iter().map(key).collect()
}

/// Waits until each node uses another key than before.
fn changed(cluster: &Cluster, before: &[String]) -> Result<()> {
    let first = &cluster.nodes()[0];
    wait_for("each to have another key", SOON, || {
        let rows = cluster.nodes().iter().map(|node| scene::row(first, node)).collect::<Result<Vec<_>>>()?;
        let is_done =
            |row: &serde_json::Value| row["rotating"].is_null() && !before.iter().any(|key| row["key"] == key.as_str());
        Ok(rows.iter().all(is_done).then_some(()))
    })
}

/// Another environment still reaches nobody of this one.
fn isolated(node: &Node, server: &Container<'_>) -> Result<()> {
    node.up("blog", "production", scene::CLIENT)?;
    let stranger = node.replica("blog", "production", "client", 1)?;
    for address in [server.address()?, server.address6()?] {
        let output = stranger.net_output(&["ping", "-c1", "-W1", address])?;
        ensure!(!output.status.success(), "another project's replica reaches {address}");
    }
    Ok(())
}
