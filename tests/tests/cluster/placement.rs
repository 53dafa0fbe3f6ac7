//! Where replicas go.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::{Container, images::Image, wait_for};

use super::scene::{self, cluster, node_of};

const COMPOSE: &str = "
services:
  web:
    image: tools:latest
    command: [sleep, inf]
    deploy: {replicas: 3}
";

#[test]
fn replicas_spread_over_the_nodes_and_reach_each_other() -> Result<()> {
    let cluster = cluster(3, &[Image::Tools])?;
    let first = &cluster.nodes()[0];
    first.up("shop", "production", COMPOSE)?;
    let replicas = first.replicas()?;
    let nodes: BTreeSet<_> = replicas.iter().map(|replica| &replica.node).collect();
    ensure!(replicas.len() == 3 && nodes.len() == 3, "{replicas:?}");
    let containers: Vec<Container<'_>> = replicas
        .iter()
        .map(|replica| {
            let node = node_of(&cluster, &replica.node)?;
            ensure!(node.replicas()?.len() == 3, "each node tells of all");
            node.replica("shop", "production", "web", replica.replica)
        })
        .collect::<Result<_>>()?;
    for from in &containers {
        for to in &replicas {
            for address in [&to.address, &to.address6].into_iter().flatten() {
                wait_for(&format!("{} reaches {address}", from.replica().node), Duration::from_secs(20), || {
                    Ok(from.net(&["ping", "-c1", "-W1", address]).ok())
                })?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_drained_node_keeps_nothing_that_can_go_and_a_removed_one_is_forgotten() -> Result<()> {
    let cluster = cluster(2, &[Image::Tools])?;
    let [first, second] = cluster.nodes() else { unreachable!("two nodes") };
    first.up("shop", "production", COMPOSE)?;
    let kept =
        "services: {db: {image: 'tools:latest', command: [sleep, inf], volumes: ['data:/data']}}\nvolumes: {data: }";
    scene::only(&cluster, second)?;
    first.up("blog", "production", kept)?;
    first.skepctl(&["nodes", "uncordon", first.machine().name()])?;

    first.skepctl(&["nodes", "drain", second.machine().name()])?;
    wait_for("the node to be empty but for the volume's service", Duration::from_secs(60), || {
        let replicas = first.replicas()?;
        let there: Vec<_> = replicas.iter().filter(|replica| replica.node == second.machine().name()).collect();
        let running = replicas.iter().filter(|replica| replica.state == "running").count();
        Ok((there.len() == 1 && there[0].service == "db" && running == 4).then_some(()))
    })?;
    // A new version goes to where the data is, cordoned or not.
    first.skepctl(&["-p", "blog", "deploy", "db"])?;
    let moved =
        first.replicas()?.iter().any(|replica| replica.service == "db" && replica.node != second.machine().name());
    ensure!(!moved, "the service left its volume");

    let refused = |why: &str| -> Result<()> {
        let output = first.skepctl_output(&["nodes", "remove", second.machine().name()])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(why), "{said}");
        Ok(())
    };
    refused("is there")?;
    first.skepctl(&["-p", "blog", "down", "--volumes"])?;
    ensure!(second.stop_skepd()?.success());
    wait_for("the node to be forgotten", Duration::from_secs(30), || {
        let output = first.skepctl_output(&["nodes", "remove", second.machine().name()])?;
        Ok(output.status.success().then_some(()))
    })?;
    let nodes = first.skepctl_json(&["nodes"])?;
    ensure!(nodes.as_array().is_some_and(|nodes| nodes.len() == 1), "{nodes}");
    wait_for("the tunnel to be gone", Duration::from_secs(20), || {
        Ok((!first.output(&["ip", "link", "show", "skep0"])?.status.success()).then_some(()))
    })?;
    Ok(())
}
