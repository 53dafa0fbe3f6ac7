//! Several nodes, one etcd.

use anyhow::{Result, ensure};
use tests::{Cluster, images::Image};

const COMPOSE: &str = "
services:
  web:
    image: tools:latest
    command: [sleep, inf]
    deploy: {replicas: 3}
";

#[test]
fn replicas_spread_over_the_nodes_and_names_mean_the_same_everywhere() -> Result<()> {
    let cluster = Cluster::start(3)?;
    for node in cluster.nodes() {
        node.load(&[Image::Tools])?;
    }
    let [first, others @ ..] = cluster.nodes() else { unreachable!("three nodes") };
    first.up("shop", "production", COMPOSE)?;
    let replicas = first.replicas()?;
    let nodes: std::collections::BTreeSet<_> = replicas.iter().map(|replica| &replica.node).collect();
    ensure!(replicas.len() == 3 && nodes.len() == 3, "{replicas:?}");
    for other in others {
        ensure!(other.replicas()?.len() == 3, "each node tells of all");
    }
    Ok(())
}
