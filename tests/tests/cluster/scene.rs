//! A client on one node, a server on another.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::images::Image;
use tests::{Cluster, Container, Node};

pub(crate) const CLIENT: &str = "
services:
  client: {image: 'busybox:latest', command: [sleep, inf]}
";
pub(crate) const BOTH: &str = "
services:
  client: {image: 'busybox:latest', command: [sleep, inf]}
  server: {image: 'busybox:latest', command: [sleep, inf]}
";

/// The node of this name.
pub(crate) fn node_of<'c>(cluster: &'c Cluster, name: &str) -> Result<&'c Node> {
    cluster.nodes().iter().find(|node| node.machine().name() == name).with_context(|| format!("no node {name}"))
}

/// What `asked` tells of a node.
pub(crate) fn row(asked: &Node, of: &Node) -> Result<Value> {
    row_of(asked, of.machine().name())
}

/// The same of a node that may not be there any more.
pub(crate) fn row_of(asked: &Node, name: &str) -> Result<Value> {
    let nodes = asked.skepctl_json(&["nodes"])?;
    let row = nodes.as_array().and_then(|all| all.iter().find(|row| row["node"] == name));
    row.cloned().with_context(|| format!("{name} is not among {nodes}"))
}

/// Nodes that know the images.
pub(crate) fn cluster(nodes: usize, images: &[Image]) -> Result<Cluster> {
    let cluster = Cluster::start(nodes)?;
    for node in cluster.nodes() {
        node.load(images)?;
    }
    Ok(cluster)
}

/// Puts what comes next on this node alone.
pub(crate) fn only(cluster: &Cluster, chosen: &Node) -> Result<()> {
    for node in cluster.nodes() {
        let chosen = node.machine().name() == chosen.machine().name();
        let verb = if chosen { "uncordon" } else { "cordon" };
        cluster.nodes()[0].skepctl(&["nodes", verb, node.machine().name()])?;
    }
    Ok(())
}

/// Pulls a node's cable out of the LAN's switch (`down`), or puts it back (`up`).
pub(crate) fn cable(cluster: &Cluster, node: &Node, how: &str) -> Result<()> {
    cluster.lan().machine().run(&["ip", "link", "set", &port(node), how])?;
    Ok(())
}

/// The port of the LAN's switch that a node's cable is in.
pub(crate) fn port(node: &Node) -> String {
    format!("port{}", node.address4().rsplit('.').next().unwrap_or_default())
}

/// `client` of shop/production on the first node, `server` on the second.
pub(crate) fn apart(cluster: &Cluster) -> Result<(Container<'_>, Container<'_>)> {
    let [first, second, ..] = cluster.nodes() else { anyhow::bail!("two nodes are needed") };
    only(cluster, first)?;
    first.up("shop", "production", CLIENT)?;
    only(cluster, second)?;
    first.up("shop", "production", BOTH)?;
    let client = first.replica("shop", "production", "client", 1)?;
    let server = second.replica("shop", "production", "server", 1)?;
    ensure!(client.replica().node == first.machine().name(), "{:?}", client.replica());
    ensure!(server.replica().node == second.machine().name(), "{:?}", server.replica());
    Ok((client, server))
}
