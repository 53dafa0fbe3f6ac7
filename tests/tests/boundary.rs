//! The boundary of a real node: Docker's own containers, the LAN and the host's processes beside Skep's containers,
//! with Docker's rules and without any.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use dataplane::bpf::{Maps, Pins, drops};
use nix::sys::signal::Signal;
use tests::images::Image;
use tests::load::Place;
use tests::netns::Namespace;
use tests::probe::{Answer, Outcome, Protocol, Responder, ask, by_all};
use tests::{Container, Lan, Machine, Node};

/// Two networks; nothing in it listens by itself.
const COMPOSE: &str = "
services:
  web: {image: 'busybox:latest', command: [sleep, inf], networks: [front]}
  api: {image: 'busybox:latest', command: [sleep, inf], networks: [front]}
  db: {image: 'busybox:latest', command: [sleep, inf], networks: [back]}
networks:
  front:
  back: {internal: true}
";
/// The cluster DNS address of a node with the default pools.
const DNS: &str = "10.224.0.53";

/// Somebody who probes, and the namespace it does so from.
struct Actor {
    name: &'static str,
    netns: Namespace,
}

impl Actor {
    fn container(name: &'static str, container: &Container<'_>) -> Result<Self> {
        Ok(Self { name, netns: container.netns()? })
    }

    fn machine(name: &'static str, machine: &Machine) -> Result<Self> {
        Ok(Self { name, netns: machine.netns()? })
    }

    fn respond(&self) -> Result<Responder> {
        Ok(Responder::start(Place::inside(Namespace::open(&self.netns.path())?), self.name.to_owned())?)
    }
}

/// The node with everything around it, and a responder everywhere.
struct Scene {
    web: Actor,
    /// In the same network as `web`.
    api: Actor,
    /// In the same environment, in another network, which is internal.
    db: Actor,
    /// `api` of another environment.
    staging: Actor,
    /// A container of Docker's default bridge, masqueraded by Docker.
    bridged: Actor,
    neighbour: Actor,
    lan: Actor,
    host: Actor,
    /// Addresses and virtual addresses of `api`, of both families.
    targets: Vec<(&'static str, IpAddr)>,
    /// Its addresses, and those of the bridge.
    bridged_addresses: Vec<IpAddr>,
    bpffs: PathBuf,
    _responders: Vec<Responder>,
    _machines: Vec<Machine>,
}

impl Scene {
    fn new(node: &Node) -> Result<Self> {
        node.load(&[Image::Busybox])?;
        // "Unreachable" is said each time, not once a second: whoever asks need not wait.
        node.machine().shell("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0")?;
        for environment in ["production", "staging"] {
            node.up("shop", environment, COMPOSE)?;
        }
        let api = node.replica("shop", "production", "api", 1)?;
        let parse = |address: &str| address.parse::<IpAddr>().with_context(|| format!("the address {address:?}"));
        let targets = vec![
            ("address", parse(api.address()?)?),
            ("IPv6 address", parse(api.address6()?)?),
            ("VIP", parse(api.vip()?)?),
            ("IPv6 VIP", parse(api.vip6()?)?),
        ];
        let (bridged, bridged_addresses) = bridged(node)?;
        let neighbour = node.neighbour()?;
        let scene = Self {
            web: Actor::container("web", &node.replica("shop", "production", "web", 1)?)?,
            api: Actor::container("api", &api)?,
            db: Actor::container("db", &node.replica("shop", "production", "db", 1)?)?,
            staging: Actor::container("staging", &node.replica("shop", "staging", "api", 1)?)?,
            bridged,
            neighbour: Actor::machine("neighbour", &neighbour)?,
            lan: Actor::machine("lan", node.lan().machine())?,
            host: Actor::machine("host", node.machine())?,
            targets,
            bridged_addresses,
            bpffs: node.bpffs(),
            _responders: Vec::new(),
            _machines: vec![neighbour],
        };
        let all = [&scene.web, &scene.api, &scene.db, &scene.staging, &scene.bridged, &scene.lan, &scene.host];
        let responders = all.into_iter().map(Actor::respond).collect::<Result<_>>()?;
        Ok(Self { _responders: responders, ..scene })
    }

    fn dropped(&self) -> Result<u64> {
        let maps = Maps::open_read_only(&Pins::new(&self.bpffs))?;
        Ok(drops(&maps)?.iter().map(|line| line.packets).sum())
    }

    fn probe(&self, from: &Actor, to: IpAddr) -> Result<Vec<(Protocol, Outcome)>> {
        by_all(&from.netns, to, || self.dropped())
    }

    fn must_answer(&self, from: &Actor, to: IpAddr) -> Result<()> {
        for (protocol, outcome) in self.probe(from, to)? {
            ensure!(matches!(outcome, Outcome::Answered(_)), "control: {} → {to}, {protocol:?}: {outcome}", from.name);
        }
        Ok(())
    }

    fn must_fail(&self, from: &Actor, to: IpAddr) -> Result<()> {
        for (protocol, outcome) in self.probe(from, to)? {
            ensure!(!matches!(outcome, Outcome::Answered(_)), "{} → {to}, {protocol:?}: {outcome}", from.name);
        }
        Ok(())
    }

    /// Whoever is not in the service's network gets nowhere, and learns no address.
    fn api_is_out_of_reach(&self) -> Result<()> {
        for (what, to) in &self.targets {
            let controls = self.must_answer(&self.web, *to);
            controls.with_context(|| format!("the {what} of api"))?;
            for from in [&self.bridged, &self.neighbour, &self.host, &self.db, &self.staging] {
                self.must_fail(from, *to).with_context(|| format!("the {what} of api"))?;
            }
        }
        let dns = DNS.parse()?;
        let name = "api.production.shop.internal";
        let known = self.web.netns.enter(|| Ok(ask(dns, name, false)?))?;
        ensure!(
            matches!(&known, Answer::Addresses(found) if found.len() == 1),
            "control: web asks for {name}: {known}"
        );
        for from in [&self.bridged, &self.neighbour, &self.host, &self.db, &self.staging] {
            // No answer at all is as good as one without an address.
            let answer = from.netns.enter(|| Ok(ask(dns, name, false).unwrap_or(Answer::NoName)))?;
            let learnt = matches!(&answer, Answer::Addresses(found) if !found.is_empty());
            ensure!(!learnt, "{} asks for {name}: {answer}", from.name);
        }
        Ok(())
    }

    /// What makes the above mean something: everybody's network works.
    fn the_ways_are_there(&self, node: &Node) -> Result<()> {
        for host in [node.address4().parse()?, node.address6().parse()?] {
            self.must_answer(&self.neighbour, host).context("the LAN reaches the host")?;
            self.must_answer(&self.bridged, host).context("a Docker container reaches the host")?;
        }
        for to in &self.bridged_addresses {
            self.must_answer(&self.host, *to).context("the host reaches a Docker container")?;
        }
        Ok(())
    }
}

/// A container as `docker run` makes it, with an IPv6 address beside Docker's IPv4 one.
fn bridged(node: &Node) -> Result<(Actor, Vec<IpAddr>)> {
    node.docker(&["run", "--detach", "--name", "bridged", "busybox:latest", "sleep", "inf"])?;
    let inspect = |format| node.docker(&["inspect", "--format", format, "bridged"]);
    let pid = inspect("{{.State.Pid}}")?;
    let address4 = inspect("{{.NetworkSettings.IPAddress}}")?.parse().context("the address of a Docker container")?;
    let netns = Namespace::open(&node.machine().outside(format!("/proc/{pid}/ns/net")))?;
    node.run(&["ip", "addr", "add", "fd00:d0c::1/64", "dev", "docker0", "nodad"])?;
    let inside = format!("--net=/proc/{pid}/ns/net");
    for line in [
        "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0",
        "ip addr add fd00:d0c::2/64 dev eth0 nodad",
        "ip -6 route replace default via fd00:d0c::1",
    ] {
        node.run(&["nsenter", &inside, "sh", "-c", line])?;
    }
    let mut addresses = vec![address4, "fd00:d0c::2".parse()?];
    // The bridge's own, the first of its network.
    addresses.extend([inspect("{{.NetworkSettings.Gateway}}")?.parse()?, "fd00:d0c::1".parse::<IpAddr>()?]);
    Ok((Actor { name: "bridged", netns }, addresses))
}

#[test]
fn nobody_outside_an_environment_reaches_into_it() -> Result<()> {
    let node = Node::start()?;
    let scene = Scene::new(&node)?;
    scene.the_ways_are_there(&node)?;
    scene.api_is_out_of_reach()?;

    // Without any rule of the firewall, and with nobody there to put them back.
    node.kill_skepd()?;
    node.machine().shell(
        "nft flush ruleset
         for family in iptables ip6tables; do
             $family -P FORWARD ACCEPT
             $family -F
             $family -t nat -F
         done",
    )?;
    scene.the_ways_are_there(&node)?;
    scene.api_is_out_of_reach().context("after `nft flush ruleset`")
}

#[test]
fn a_container_reaches_the_internet_masqueraded_and_nothing_private() -> Result<()> {
    let node = Node::start()?;
    let scene = Scene::new(&node)?;
    for to in [Lan::OUTSIDE4, Lan::OUTSIDE6] {
        // The LAN has no route back to the pools: an answer shows that the node's address was the sender's.
        scene.must_answer(&scene.web, to.parse()?)?;
        scene.must_fail(&scene.db, to.parse()?).context("a service all of whose networks are internal")?;
    }
    for to in Lan::DENIED {
        scene.must_answer(&scene.host, to.parse()?)?;
        scene.must_fail(&scene.web, to.parse()?)?;
    }
    for to in &scene.bridged_addresses {
        scene.must_answer(&scene.host, *to)?;
        scene.must_fail(&scene.web, *to)?;
    }
    for to in [node.address4().parse()?, node.address6().parse()?] {
        scene.must_answer(&scene.neighbour, to)?;
        scene.must_fail(&scene.web, to)?;
    }
    Ok(())
}

/// Docker's own containers go on as before, whether skepd is there or not.
#[test]
fn docker_containers_keep_their_way_out() -> Result<()> {
    let node = Node::start()?;
    let scene = Scene::new(&node)?;
    let outside = Lan::OUTSIDE4.parse()?;
    scene.must_answer(&scene.bridged, outside)?;
    node.stop_skepd()?;
    scene.must_answer(&scene.bridged, outside)?;
    node.stop_docker(Signal::SIGTERM)?;
    node.start_docker()?;
    scene.must_answer(&scene.bridged, outside).context("after a restart of Docker")
}
