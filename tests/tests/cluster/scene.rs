//! A client on one node, a server on another.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::images::Image;
use tests::load::{Connects, Datagrams, Dns, KeepAlive, Place, Running, Server, Service, run};
use tests::{Cluster, Container, Node, wait_for};

const KEEP_ALIVE: u16 = 7001;
const PER_REQUEST: u16 = 7002;
const DATAGRAMS: u16 = 7003;
const DNS: &str = "10.224.0.53:53";

/// Exchanges of each kind before and after each event.
const PHASE: u64 = 300;

const CLIENT: &str = "
services:
  client: {image: 'busybox:latest', command: [sleep, inf]}
";
const BOTH: &str = "
services:
  client: {image: 'busybox:latest', command: [sleep, inf]}
  server: {image: 'busybox:latest', command: [sleep, inf]}
";

/// The node of this name.
pub(crate) fn node_of<'c>(cluster: &'c Cluster, name: &str) -> Result<&'c Node> {
    cluster.nodes().iter().find(|node| node.machine().name() == name).with_context(|| format!("no node {name}"))
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
    let port = format!("port{}", node.address4().rsplit('.').next().unwrap_or_default());
    cluster.lan().machine().run(&["ip", "link", "set", &port, how])?;
    Ok(())
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

/// What goes on meanwhile.
pub(crate) struct Load {
    running: Vec<(&'static str, Running)>,
    _servers: Vec<Server>,
}

impl Load {
    pub(crate) fn between(client: &Container<'_>, server: &Container<'_>) -> Result<Self> {
        let (from, at) = (Place::inside(client.netns()?), Place::inside(server.netns()?));
        let servers = vec![
            Server::start(at.clone(), KEEP_ALIVE, Service::Echo)?,
            Server::start(at.clone(), PER_REQUEST, Service::EchoOnce)?,
            Server::start(at, DATAGRAMS, Service::Datagrams)?,
        ];
        let to = |address: &str, port: u16| -> Result<SocketAddr> { Ok((address.parse::<IpAddr>()?, port).into()) };
        let (vip4, vip6, dns) = (server.vip()?, server.vip6()?, DNS.parse()?);
        let (open, open6) = (to(vip4, KEEP_ALIVE)?, to(vip6, KEEP_ALIVE)?);
        let (new, new6) = (to(vip4, PER_REQUEST)?, to(vip6, PER_REQUEST)?);
        let (udp, vip) = (to(vip6, DATAGRAMS)?, vip4.parse()?);
        let running = vec![
            ("keep-alive", run(from.clone(), move || KeepAlive::new(open))),
            ("keep-alive, IPv6", run(from.clone(), move || KeepAlive::new(open6))),
            ("new connections", run(from.clone(), move || Connects::new(new))),
            ("new, IPv6", run(from.clone(), move || Connects::new(new6))),
            ("UDP", run(from.clone(), move || Datagrams::connected(udp))),
            ("name", run(from, move || Dns::new(dns, "server.internal", 1, Some(vip)))),
        ];
        Ok(Self { running, _servers: servers })
    }

    /// Waits until each part has made [`PHASE`] more exchanges, without a failure.
    pub(crate) fn goes_on(&self) -> Result<()> {
        let before: Vec<_> = self.running.iter().map(|(_, running)| running.exchanges()).collect();
        for ((what, running), before) in self.running.iter().zip(before) {
            let goal = format!("{what}: {PHASE} more exchanges");
            wait_for(&goal, Duration::from_secs(60), || {
                Ok((running.failures() > 0 || running.exchanges() >= before + PHASE).then_some(()))
            })?;
            ensure!(running.failures() == 0, "{what}: {:?}", running.first_failure());
        }
        Ok(())
    }

    /// How many exchanges there were; none may have failed.
    pub(crate) fn ends_well(self) -> Result<()> {
        for (what, running) in self.running {
            let tally = running.stop()?;
            println!(
                "{what:<20} {:>8} exchanges, {} failures, slowest {:?}",
                tally.exchanges, tally.failures, tally.slowest
            );
            ensure!(tally.exchanges > 0 && tally.failures == 0, "{what}: {tally:?}");
        }
        Ok(())
    }
}
