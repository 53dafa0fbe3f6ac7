//! Nodes on an underlay, each a network namespace with a tunnel of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use dataplane::config::{Args, Config};
use dataplane::wireguard::{Change, Kind, Peer, PublicKey, Seen, Tunnel, Wanted, changes};
use ipnet::IpNet;
use tests::netns::Namespace;

/// Where packets between nodes go: a bridge.
pub(crate) struct Underlay {
    netns: Namespace,
    mtu: u32,
}

impl Underlay {
    pub(crate) fn new(mtu: u32) -> Result<Self> {
        let netns = Namespace::new()?;
        netns.run(&format!("ip link add bridge mtu {mtu} type bridge"))?;
        netns.run("ip link set bridge up")?;
        Ok(Self { netns, mtu })
    }
}

/// A node: 192.0.2.N on the underlay of its own, 10.N.0.1 and fd00:N::1 in its tunnel.
pub(crate) struct Node {
    pub(crate) number: u8,
    pub(crate) netns: Namespace,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) kind: Kind,
    pub(crate) tunnel: Way,
}

/// How a tunnel is called, by which port and address it is reached, and the first octet of what is in it.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) device: &'static str,
    pub(crate) port: u16,
    pub(crate) underlay: Ipv4Addr,
    pub(crate) inside: u8,
}

impl Node {
    pub(crate) fn new(underlay: &Underlay, number: u8, kind: Kind) -> Result<Self> {
        let netns = Namespace::new()?;
        let (there, mtu) = (underlay.netns.path(), underlay.mtu);
        let peer = format!("type veth peer name node{number} mtu {mtu} netns {}", there.display());
        netns.run(&format!("ip link add eth0 mtu {mtu} {peer}"))?;
        underlay.netns.run(&format!("ip link set node{number} master bridge up"))?;
        netns.run("ip link set lo up")?;
        netns.run(&format!("ip addr add 192.0.2.{number}/24 dev eth0"))?;
        netns.run("ip link set eth0 up")?;
        let underlay = Ipv4Addr::new(192, 0, 2, number);
        let tunnel = Way { device: "skep0", port: 51820, underlay, inside: 10 };
        Ok(Self { number, netns, directory: tempfile::tempdir()?, kind, tunnel })
    }

    pub(crate) fn config(&self) -> Result<Config> {
        let kind = if self.kind == Kind::Kernel { "kernel" } else { "userspace" };
        let directory = self.directory.path().as_os_str();
        let options = ["skepd", "--node-name", "test", "--tunnel", kind, "--tunnel-device", self.tunnel.device];
        let directories = ["--run-dir".into(), directory.to_owned(), "--state-dir".into(), directory.to_owned()];
        Ok(Args::try_parse_from(options.map(Into::into).into_iter().chain(directories))?.options.resolve()?)
    }

    /// What a daemon of this node would do with its tunnel.
    pub(crate) fn with<T: Send>(&self, work: impl AsyncFnOnce(Tunnel) -> Result<T> + Send) -> Result<T> {
        let config = self.config()?;
        self.netns.enter(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { work(Tunnel::new(&config)?.with_program(program()?)).await })
        })
    }

    pub(crate) fn key(&self) -> Result<PublicKey> {
        self.with(async |tunnel| Ok(tunnel.keys().present))
    }

    /// This node, as others are to know it.
    pub(crate) fn as_peer(&self) -> Result<Peer> {
        let (number, Way { port, underlay, inside, .. }) = (self.number, self.tunnel);
        let allowed = [format!("{inside}.{number}.0.0/24"), format!("fd00:{number}::/64")];
        let allowed: BTreeSet<IpNet> = allowed.iter().map(|prefix| prefix.parse()).collect::<Result<_, _>>()?;
        Ok(Peer {
            key: self.key()?,
            endpoint: Some((underlay, port).into()),
            allowed,
            keepalive: None,
            takes_over: None,
        })
    }

    /// A device with these peers.
    pub(crate) fn wanted(&self, peers: &[Peer]) -> Wanted {
        let peers: BTreeMap<_, _> = peers.iter().map(|peer| (peer.key, peer.clone())).collect();
        Wanted { device: self.tunnel.device.to_owned(), port: self.tunnel.port, mtu: 1420, peers }
    }

    /// Makes the device what it should be; returns what was changed.
    pub(crate) fn make_so(&self, wanted: &Wanted) -> Result<Vec<Change>> {
        let (wanted, kind) = (wanted.clone(), self.kind);
        let done = self.with(async move |tunnel| make_so(&tunnel, &wanted, kind).await).with_context(|| self.log())?;
        // The host's part, which is not the tunnel's.
        let Self { number, netns, tunnel: Way { device, inside, .. }, .. } = self;
        netns.run(&format!("ip addr replace {inside}.{number}.0.1/8 dev {device}"))?;
        netns.run(&format!("ip -6 addr replace fd00:{number}::1/16 dev {device} nodad"))?;
        Ok(done)
    }

    pub(crate) fn see(&self) -> Result<Seen> {
        self.with(async |tunnel| tunnel.see().await?.context("there is no device"))
    }

    /// The process of the userspace device.
    pub(crate) fn process(&self) -> Result<u32> {
        for entry in std::fs::read_dir(self.directory.path())? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("tunnel-") && name.ends_with(".pid") {
                return Ok(std::fs::read_to_string(&path)?.trim().parse()?);
            }
        }
        bail!("no tunnel has a pid file")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("tunnel.log")).unwrap_or_default()
    }

    /// Asks another node through the tunnel, both families, with packets as long as fit.
    pub(crate) fn reaches(&self, other: u8, mtu: u32) -> Result<()> {
        let (len4, len6) = (mtu - 28, mtu - 48);
        self.netns.run(&format!("ping -4 -n -c 2 -i 0.05 -W 5 -M do -s {len4} 10.{other}.0.1"))?;
        self.netns.run(&format!("ping -6 -n -c 2 -i 0.05 -W 5 -M do -s {len6} fd00:{other}::1"))?;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Ok(config) = self.config() {
            let _removed = self.with(async move |_| Ok(dataplane::wireguard::remove(&config).await?));
        }
    }
}

/// As an agent does: looks, changes what differs, and looks again.
pub(crate) async fn make_so(tunnel: &Tunnel, wanted: &Wanted, kind: Kind) -> Result<Vec<Change>> {
    ensure!(tunnel.ensure().await? == kind, "another kind of tunnel");
    let seen = tunnel.see().await?.context("no device")?;
    let done = changes(wanted, tunnel.keys().present, &seen);
    for change in &done {
        tunnel.apply(change).await?;
    }
    let seen = tunnel.see().await?.context("no device any more")?;
    let left = changes(wanted, tunnel.keys().present, &seen);
    ensure!(left.is_empty(), "still to be done: {left:?} of {seen:?}");
    Ok(done)
}

pub(crate) fn program() -> Result<PathBuf> {
    tests::paths::program("skepd")
}

/// Those that this machine can have.
pub(crate) fn kinds() -> Result<Vec<Kind>> {
    let netns = Namespace::new()?;
    let kernel = netns.run("ip link add probe type wireguard").is_ok();
    Ok(std::iter::once(Kind::Userspace).chain(kernel.then_some(Kind::Kernel)).collect())
}

/// Some nodes of one kind that all know each other.
pub(crate) fn mesh(count: u8, kind: Kind) -> Result<(Underlay, Vec<Node>)> {
    let underlay = Underlay::new(1500)?;
    let nodes: Vec<Node> = (1..=count).map(|number| Node::new(&underlay, number, kind)).collect::<Result<_>>()?;
    connect(&nodes)?;
    Ok((underlay, nodes))
}

/// Has all of them know each other.
pub(crate) fn connect(nodes: &[Node]) -> Result<()> {
    let peers: Vec<Peer> = nodes.iter().map(Node::as_peer).collect::<Result<_>>()?;
    for (node, own) in nodes.iter().zip(&peers) {
        let others: Vec<Peer> = peers.iter().filter(|peer| peer.key != own.key).cloned().collect();
        node.make_so(&node.wanted(&others))?;
    }
    Ok(())
}
