//! One machine becomes a cluster; others are let in, once each, and out.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use tests::images::Image;
use tests::{Lan, Node, Process, engine, paths, wait_for};

use super::scene;

const COMPOSE: &str = "
services:
  client: {image: 'busybox:latest', command: [sleep, inf]}
  server: {image: 'busybox:latest', command: [sleep, inf], deploy: {replicas: REPLICAS}}
";
/// Where a door is.
const PORT: &str = ":51820";

fn node(lan: &Arc<Lan>) -> Result<Node> {
    let node = Node::builder().lan(lan).docker_only()?;
    node.load(&[Image::Busybox])?;
    Ok(node)
}

/// Makes a node the first of a cluster; its etcd runs as long as what this gives.
fn init(node: &Node) -> Result<Process> {
    let program = engine::etcd()?.display().to_string();
    let made = node.skepd(&["cluster", "init", "--etcd-program", &program])?;
    ensure!(made.status.success(), "{made:?}");
    let config = node.state_directory().join("cluster/etcd.yaml").display().to_string();
    let etcd = node.machine().spawn("etcd", &[program.as_str(), "--config-file", &config])?;
    Ok(etcd)
}

/// A token, and until when it is good: seconds since the epoch.
fn invite(node: &Node, within: &str) -> Result<(String, u64)> {
    let invited = node.skepctl_json(&["nodes", "invite", "--within", within])?;
    let token = invited["token"].as_str().context("no token")?.to_owned();
    Ok((token, invited["until"].as_u64().context("no end")?))
}

/// `skepd join` on a machine, as a node of this name with a state directory of its own: what it says.
fn join_as(node: &Node, name: &str, token: &str, options: &[&str]) -> Result<(bool, String)> {
    let directory = node.machine().directory().join(name).display().to_string();
    let skepd = paths::program("skepd")?.display().to_string();
    let mut line = vec![skepd.as_str(), "join", token, "--node-name", name, "--state-dir", &directory];
    line.extend(["--run-dir", &directory]);
    line.extend(options);
    let output = node.output(&line)?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Ok((output.status.success(), said))
}

/// Container and addresses of a replica.
type Runs = [Option<String>; 4];

/// Each service's replicas by number.
fn what_runs(node: &Node) -> Result<BTreeMap<(String, u32), Runs>> {
    let of = |it: tests::Replica| ((it.service, it.replica), [it.container, it.address, it.vip, it.vip6]);
    Ok(node.replicas()?.into_iter().map(of).collect())
}

fn is_open(node: &Node) -> Result<bool> {
    Ok(node.run(&["ss", "-Hltn"])?.contains(PORT))
}

#[test]
fn a_node_becomes_a_cluster_and_others_join_and_leave() -> Result<()> {
    let lan = Arc::new(Lan::new()?);
    let (first, second) = (node(&lan)?, node(&lan)?);
    let name = |node: &Node| node.machine().name().to_owned();
    first.start_skepd()?;
    first.up("shop", "production", &COMPOSE.replace("REPLICAS", "1"))?;
    let before = what_runs(&first)?;
    first.skepctl(&["nodes", "invite"]).err().context("there is no cluster yet")?;

    let refused = first.skepd(&["cluster", "init"])?;
    ensure!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("stop it first"));
    first.stop_skepd()?;
    let _etcd = init(&first)?;
    first.start_skepd()?;
    wait_for("the same replicas as before", Duration::from_secs(20), || {
        Ok((what_runs(&first)? == before).then_some(()))
    })?;
    let client = first.replica("shop", "production", "client", 1)?;
    client.net(&["ping", "-c1", "-W2", before[&("server".to_owned(), 1)][2].as_deref().context("no VIP")?])?;
    let again = first.skepd(&["cluster", "init"])?;
    ensure!(String::from_utf8_lossy(&again.stderr).contains("skepctl nodes invite"), "{again:?}");

    // A door is there while somebody is expected.
    ensure!(!is_open(&first)?);
    let (token, _) = invite(&first, "10m")?;
    ensure!(is_open(&first)?);
    let joined = second.skepd(&["join", &token])?;
    ensure!(joined.status.success(), "{joined:?}");
    wait_for("the door to be closed", Duration::from_secs(10), || Ok((!is_open(&first)?).then_some(())))?;
    second.start_skepd()?;
    for told in [&first, &second] {
        wait_for("both nodes to be ready", Duration::from_secs(20), || {
            let rows = told.skepctl_json(&["nodes"])?;
            let rows = rows.as_array().context("an array")?;
            Ok((rows.len() == 2 && rows.iter().all(|row| row["state"] == "ready")).then_some(()))
        })?;
    }
    let key = |node: &Node| fs::read(node.state_directory().join("cluster.key"));
    ensure!(key(&first)? == key(&second)?);
    second.up("shop", "production", &COMPOSE.replace("REPLICAS", "2"))?;
    let there = second.replica("shop", "production", "server", 2)?;
    ensure!(there.replica().node == name(&second), "{:?}", there.replica());
    for address in [there.replica().address.as_deref(), there.replica().address6.as_deref()] {
        let address = address.context("no address")?;
        wait_for("the client to reach the other node", Duration::from_secs(20), || {
            Ok(client.net(&["ping", "-c1", "-W1", address]).ok())
        })?;
    }

    // Nobody comes in by the back door: no certificate, no etcd.
    let url = format!("https://{}:2379/version", first.address4());
    ensure!(!first.output(&["curl", "-sk", "--max-time", "5", &url])?.status.success(), "etcd asks for a certificate");
    let said = format!("{:#}", second.skepctl(&["nodes", "invite"]).err().context("it has no authority")?);
    ensure!(said.contains(&name(&first)), "{said}");

    // The node that is taken out is let in no more.
    second.kill_skepd()?;
    wait_for("the second node to be away", Duration::from_secs(30), || {
        Ok((scene::row(&first, &second)?["state"] == "away").then_some(()))
    })?;
    first.skepctl(&["nodes", "remove", &name(&second)])?;
    wait_for("etcd to let it in no more", Duration::from_secs(20), || {
        Ok(first.skepd_log()?.contains("does not let a removed node in any more").then_some(()))
    })?;
    fs::remove_file(second.state_directory().join("etcd.redb"))?;
    let refused = format!("{:#}", second.start_skepd().err().context("its certificate is worth nothing")?);
    ensure!(refused.contains("skepctl nodes invite"), "{refused}");
    Ok(())
}

#[test]
fn a_token_is_good_once_for_whoever_fits_and_for_a_while() -> Result<()> {
    let lan = Arc::new(Lan::new()?);
    let first = node(&lan)?;
    let _etcd = init(&first)?;
    first.start_skepd()?;
    let (token, _) = invite(&first, "10m")?;
    // Who does not fit has not used it.
    let (done, said) = join_as(&first, "third", &token, &["--vip-pool4", "10.99.0.0/16"])?;
    ensure!(!done && said.contains("--vip-pool4 10.224.0.0/16"), "{said}");
    let (done, said) = join_as(&first, first.machine().name(), &token, &[])?;
    ensure!(!done && said.contains("another --node-name"), "{said}");
    let (done, said) = join_as(&first, "third", &token[..token.len() - 1], &[])?;
    ensure!(!done && said.contains("no token"), "{said}");
    ensure!(join_as(&first, "third", &token, &[])?.0);
    let (done, said) = join_as(&first, "fourth", &token, &[])?;
    ensure!(!done && said.contains("skepctl nodes invite"), "{said}");
    ensure!(!first.machine().directory().join("fourth/cluster").exists(), "nothing is half done");

    let (token, until) = invite(&first, "1s")?;
    wait_for("the token's end", Duration::from_secs(10), || {
        Ok((SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() > until).then_some(()))
    })?;
    let (done, said) = join_as(&first, "fourth", &token, &[])?;
    ensure!(!done && said.contains(first.address4()), "{said}");
    Ok(())
}
