//! What is measured: pairs of places with a path between them, all on one machine.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use tests::images::Image;
use tests::load::Place;
use tests::netns::Namespace;
use tests::{Container, Node};

/// Client and server share a core, so that no scheduler's choice is measured.
const CORE: usize = 1;

/// A client, a server, and how the one reaches the other.
#[derive(Clone)]
pub(crate) struct Subject {
    /// Its name in the results.
    pub(crate) name: &'static str,
    /// Where the client works.
    pub(crate) client: Place,
    /// Where the server works.
    pub(crate) server: Place,
    /// The address the client asks.
    pub(crate) target: IpAddr,
}

/// A resolver as a client has it.
pub(crate) struct Resolver {
    /// Its name in the results.
    pub(crate) name: &'static str,
    /// Where the client works.
    pub(crate) client: Place,
    /// The resolver.
    pub(crate) server: SocketAddr,
    /// A name that it knows.
    pub(crate) question: &'static str,
}

/// Everything that is measured; dropping it takes it down.
pub(crate) struct Stage {
    /// Paths, the baselines first.
    pub(crate) subjects: Vec<Subject>,
    /// Resolvers, the baseline first.
    pub(crate) resolvers: Vec<Resolver>,
    /// The node that the subjects run on.
    pub(crate) node: Node,
}

const COMPOSE: &str = "
services:
  client: {image: 'busybox:latest', command: [sleep, inf]}
  server: {image: 'busybox:latest', command: [sleep, inf]}
";

impl Stage {
    /// Brings a bare veth pair, a Docker network and a Skep environment up.
    pub(crate) fn set() -> Result<Self> {
        let direct = bare_pair()?;
        // Room for the many entries of the last part; a map's capacity is no part of what a look-up costs.
        let node =
            Node::builder().skepd_arguments(&["--max-endpoints", "131072", "--max-services", "131072"]).start()?;
        node.load(&[Image::Busybox])?;
        let (bridge, dockers) = docker_bridge(&node)?;
        let (by_address, by_vip, skep) = skep(&node)?;
        Ok(Self { subjects: vec![direct, bridge, by_address, by_vip], resolvers: vec![dockers, skep], node })
    }
}

pub(crate) fn place(netns: Namespace) -> Place {
    Place::inside(netns).on_core(CORE)
}

/// Two namespaces with nothing but a veth between them: the floor.
fn bare_pair() -> Result<Subject> {
    let [left, right] = [Namespace::new()?, Namespace::new()?];
    left.run(&format!("ip link add eth0 type veth peer name eth0 netns {}", right.path().display()))?;
    for (netns, address) in [(&left, "11.9.0.1/24"), (&right, "11.9.0.2/24")] {
        netns.run(&format!("ip addr add {address} dev eth0"))?;
        netns.run("ip link set eth0 up")?;
    }
    Ok(Subject { name: "bare-veth", client: place(left), server: place(right), target: "11.9.0.2".parse()? })
}

/// Two containers on a user-defined bridge, and the resolver Docker gives them.
fn docker_bridge(node: &Node) -> Result<(Subject, Resolver)> {
    node.docker(&["network", "create", "bench"])?;
    for name in ["client", "server"] {
        let run = ["run", "--detach", "--network", "bench", "--name", name, "busybox:latest", "sleep", "inf"];
        node.docker(&run)?;
    }
    let inspect = |name: &str, format: &str| node.docker(&["inspect", "--format", format, name]);
    let netns = |name| {
        let pid = inspect(name, "{{.State.Pid}}")?;
        Namespace::open(&node.machine().outside(format!("/proc/{pid}/ns/net")))
    };
    let client = place(netns("client")?);
    let subject = Subject {
        name: "docker-bridge",
        client: client.clone(),
        server: place(netns("server")?),
        target: inspect("server", "{{.NetworkSettings.Networks.bench.IPAddress}}")?.trim().parse()?,
    };
    let resolver = Resolver { name: "docker-dns", client, server: "127.0.0.11:53".parse()?, question: "server" };
    Ok((subject, resolver))
}

/// Two services of one environment, by the replica's address and by the service's VIP.
fn skep(node: &Node) -> Result<(Subject, Subject, Resolver)> {
    node.up("bench", "production", COMPOSE)?;
    let client = node.replica("bench", "production", "client", 1)?;
    let server = node.replica("bench", "production", "server", 1)?;
    let resolver = Resolver {
        name: "skep-dns",
        client: place(client.netns()?),
        server: "10.224.0.53:53".parse()?,
        question: "server.internal",
    };
    let [by_address, by_vip] = between(&client, &server, ["skep-address", "skep-vip"])?;
    Ok((by_address, by_vip, resolver))
}

/// One replica asks another, by the replica's address and by the service's VIP.
pub(crate) fn between(client: &Container, server: &Container, names: [&'static str; 2]) -> Result<[Subject; 2]> {
    let subject = |name, target: &str| -> Result<Subject> {
        Ok(Subject {
            name,
            client: place(client.netns()?),
            server: place(server.netns()?),
            target: target.parse().with_context(|| format!("address {target:?}"))?,
        })
    };
    Ok([subject(names[0], server.address()?)?, subject(names[1], server.vip()?)?])
}
