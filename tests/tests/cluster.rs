//! Several nodes, one etcd, one private network.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::{Cluster, Container, Node, images::Image, wait_for};

const COMPOSE: &str = "
services:
  web:
    image: tools:latest
    command: [sleep, inf]
    deploy: {replicas: 3}
";

#[test]
fn replicas_spread_over_the_nodes_and_reach_each_other() -> Result<()> {
    let cluster = Cluster::start(3)?;
    for node in cluster.nodes() {
        node.load(&[Image::Tools])?;
    }
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

fn node_of<'c>(cluster: &'c Cluster, name: &str) -> Result<&'c Node> {
    cluster.nodes().iter().find(|node| node.machine().name() == name).with_context(|| format!("no node {name}"))
}
