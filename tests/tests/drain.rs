//! Who is still connected to a replica that is to go, counted in its network namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dataplane::agent::drain::{Drain, Drains, Ending};
use dataplane::model::{EnvironmentKey, Pools, ReplicaKey, ServiceKey};
use dataplane::netlink::{Connections, Meter, Netlink, Netns, VethSpec};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use tests::netns::Namespace;

#[path = "drain/killed.rs"]
mod killed;
#[path = "drain/states.rs"]
mod states;

/// Longest wait for the kernel to see a packet through, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

const REPLICA: &str = "10.208.0.5";
const REPLICA6: &str = "fd53:6b65:7000::5";
/// Two other replicas', and one outside the cluster.
const CLIENT: &str = "10.208.0.6";
const OTHER_CLIENT: &str = "10.208.0.7";
const OUTSIDE: &str = "192.0.2.1";
const CLIENT6: &str = "fd53:6b65:7000::6";
const OUTSIDE6: &str = "2001:db8::1";

/// A replica's namespace, plumbed as skepd does, and the rest of the world in another one.
struct Scene {
    world: Namespace,
    replica: Namespace,
}

impl Scene {
    fn new() -> Result<Self> {
        let scene = Self { world: Namespace::new()?, replica: Namespace::new()? };
        scene.world.run("ip link set lo up")?;
        for address in [CLIENT, OTHER_CLIENT, OUTSIDE] {
            scene.world.run(&format!("ip addr add {address}/32 dev lo"))?;
        }
        for address in [CLIENT6, OUTSIDE6] {
            scene.world.run(&format!("ip addr add {address}/128 dev lo nodad"))?;
        }
        scene.replica.run("ip link set lo up")?;
        let spec = VethSpec::new(REPLICA.parse()?, REPLICA6.parse()?, "shop/production/api.1", 1500);
        scene.skepd(async |netns, _| {
            let netlink = Netlink::connect()?;
            netlink.create_veth(&spec, &netns).await?;
            netlink.ensure_host_side(&spec).await?;
            Netlink::plumb_container(&netns, &spec).await?;
            Ok(netlink.until_ready(&netns, &spec).await?)
        })?;
        Ok(scene)
    }

    /// Runs what skepd does, in the host's namespace; with the replica's, and where that is to be found.
    fn skepd<T: Send>(&self, work: impl AsyncFnOnce(Netns, PathBuf) -> Result<T> + Send) -> Result<T> {
        self.world.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { work(Netns::open(&self.replica.path())?, self.replica.path()).await })
        })
    }

    fn listen(&self, address: &str) -> Result<TcpListener> {
        self.replica.enter(|| Ok(TcpListener::bind(address)?))
    }

    /// A connection from one of the world's addresses to a port of the replica.
    fn connect(&self, from: &str, port: u16) -> Result<TcpStream> {
        let from: IpAddr = from.parse()?;
        let to: IpAddr = if from.is_ipv4() { REPLICA.parse()? } else { REPLICA6.parse()? };
        let stream = self.world.enter(|| {
            let stream = opened(from, SockType::Stream)?;
            bind(stream.as_raw_fd(), &storage(from, 0))?;
            connect(stream.as_raw_fd(), &storage(to, port))?;
            Ok(stream)
        })?;
        Ok(stream.into())
    }

    /// What a meter counts, as soon as it is that.
    fn counts(&self, meter: &mut Meter, tcp: u32, udp: u32) -> Result<()> {
        self.skepd(async |_, _| counts(meter, tcp, udp).await)
    }

    fn meter(&self) -> Result<Meter> {
        Ok(Meter::new(Netns::open(&self.replica.path())?, pools()?))
    }

    /// How many TCP sockets of the replica are in a state, as iproute2 tells.
    fn sockets(&self, state: &str) -> Result<usize> {
        Ok(self.replica.run(&format!("ss -Htan state {state}"))?.lines().count())
    }
}

async fn counts(meter: &mut Meter, tcp: u32, udp: u32) -> Result<()> {
    let wanted = Connections { tcp, udp };
    let mut last = Connections::default();
    until(&format!("{wanted:?}"), async || {
        last = meter.count().await?;
        Ok(last == wanted)
    })
    .await
    .with_context(|| format!("counted {last:?}"))
}

/// Asks again and again: the kernel tells nobody when a connection changes its state.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !condition().await? {
        if Instant::now() >= end {
            bail!("{what}: not so after {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn opened(address: IpAddr, kind: SockType) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    Ok(socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?)
}

fn storage(address: IpAddr, port: u16) -> SockaddrStorage {
    SocketAddr::new(address, port).into()
}

fn pools() -> Result<Pools> {
    Ok(Pools {
        container4: "10.208.0.0/12".parse()?,
        container6: "fd53:6b65:7000::/48".parse()?,
        vip4: "10.224.0.0/16".parse()?,
        vip6: "fd53:6b65:7001::/64".parse()?,
    })
}

fn key(replica: u32) -> ReplicaKey {
    let environment = EnvironmentKey { project: "shop".into(), environment: "production".into() };
    ReplicaKey { service: ServiceKey { environment, service: "api".into() }, deployment: 1, replica }
}

#[test]
fn what_others_of_the_cluster_began_is_counted_and_nothing_else() -> Result<()> {
    let scene = Scene::new()?;
    let (four, both) = (scene.listen("0.0.0.0:80")?, scene.listen("[::]:8080")?);
    let mut meter = scene.meter()?;
    scene.counts(&mut meter, 0, 0)?;

    let mut clients = Vec::new();
    for (from, port) in [
        (CLIENT, 80),
        (CLIENT, 80),
        (OTHER_CLIENT, 80),
        // These are v4-mapped for the server.
        (CLIENT, 8080),
        (OTHER_CLIENT, 8080),
        (CLIENT6, 8080),
    ] {
        clients.push(scene.connect(from, port)?);
    }
    let _outside: Vec<_> = [(OUTSIDE, 80), (OUTSIDE, 80), (OUTSIDE, 8080), (OUTSIDE6, 8080)]
        .into_iter()
        .map(|(from, port)| scene.connect(from, port))
        .collect::<Result<_>>()?;
    // Whether the server has accepted a connection makes no difference to its client.
    let mut accepted = vec![four.accept()?.0, both.accept()?.0];

    let database = scene.world.enter(|| Ok(TcpListener::bind((CLIENT, 5432))?))?;
    let own = |to: &str| scene.replica.enter(|| Ok(TcpStream::connect(to)?));
    let _own = [own("10.208.0.6:5432")?, own("10.208.0.6:5432")?, own("10.208.0.5:80")?, own("127.0.0.1:80")?];

    let open = scene.datagrams(443)?;
    let server_side: Vec<UdpSocket> = [CLIENT, OTHER_CLIENT, OUTSIDE]
        .iter()
        .map(|client| {
            let socket = scene.datagrams(443)?;
            scene.replica.enter(|| Ok(socket.connect((*client, 40_000))?))?;
            Ok(socket)
        })
        .collect::<Result<_>>()?;
    let _resolver = scene.replica.enter(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((CLIENT, 53))?;
        Ok(socket)
    })?;

    scene.counts(&mut meter, 6, 2)?;
    // Ten from the world, two to it, and both ends of two to itself.
    assert_eq!(scene.sockets("established")?, 16);
    assert_eq!(scene.replica.run("ss -Huan state established")?.lines().count(), 4);

    drop(server_side);
    scene.counts(&mut meter, 6, 0)?;
    drop((open, database));
    drop((clients.remove(0), accepted.remove(0)));
    scene.counts(&mut meter, 5, 0)?;
    drop((clients, accepted, four, both));
    scene.counts(&mut meter, 0, 0)
}

impl Scene {
    /// A UDP socket of the replica that shares its port.
    fn datagrams(&self, port: u16) -> Result<UdpSocket> {
        let fd = self.replica.enter(|| {
            let any = Ipv6Addr::UNSPECIFIED.into();
            let fd = opened(any, SockType::Datagram)?;
            setsockopt(&fd, sockopt::ReuseAddr, &true)?;
            bind(fd.as_raw_fd(), &storage(any, port))?;
            Ok(fd)
        })?;
        Ok(fd.into())
    }
}

#[test]
fn a_drain_ends_with_the_last_connection() -> Result<()> {
    let scene = Scene::new()?;
    let server = scene.listen("0.0.0.0:80")?;
    let mut clients = vec![scene.connect(CLIENT, 80)?, scene.connect(OTHER_CLIENT, 80)?];
    let mut accepted = vec![server.accept()?.0, server.accept()?.0];
    scene.skepd(async |_, netns| {
        let drains = Drains::new(pools()?);
        let ending = || Ending { key: key(1), netns: netns.clone(), timeout: Duration::from_secs(3_600) };
        drains.follow([ending()]);
        assert_eq!(drains.state(&key(1)), None, "not counted yet");
        for connections in [2, 1] {
            comes_to(&drains, Drain { connections, over: false }).await?;
            // Named in every turn of the agent.
            drains.follow([ending()]);
            drop((clients.remove(0), accepted.remove(0)));
        }
        comes_to(&drains, Drain { connections: 0, over: true }).await?;
        assert_eq!(drains.state(&key(2)), None);
        drains.follow([]);
        assert_eq!(drains.state(&key(1)), None);
        Ok(())
    })
}

#[test]
fn a_drain_ends_when_its_time_is_up_and_tells_who_is_left() -> Result<()> {
    const TIMEOUT: Duration = Duration::from_millis(350);
    let scene = Scene::new()?;
    let _server = scene.listen("0.0.0.0:80")?;
    let _client = scene.connect(CLIENT, 80)?;
    scene.skepd(async |_, netns| {
        let drains = Drains::new(pools()?);
        let since = Instant::now();
        drains.follow([Ending { key: key(1), netns, timeout: TIMEOUT }]);
        comes_to(&drains, Drain { connections: 1, over: false }).await?;
        comes_to(&drains, Drain { connections: 1, over: true }).await?;
        assert!(since.elapsed() >= TIMEOUT);
        Ok(())
    })
}

#[test]
fn what_has_no_namespace_any_more_has_no_connections() -> Result<()> {
    let scene = Scene::new()?;
    scene.skepd(async |_, _| {
        let drains = Drains::new(pools()?);
        let gone = Ending { key: key(1), netns: "/proc/0/ns/net".into(), timeout: PATIENCE };
        drains.follow([gone]);
        assert_eq!(drains.state(&key(1)), Some(Drain { connections: 0, over: true }));
        Ok(tokio::time::timeout(PATIENCE, drains.changed()).await?)
    })
}

/// The bell is all that is listened to.
async fn comes_to(drains: &Drains, wanted: Drain) -> Result<()> {
    let come = async {
        while drains.state(&key(1)) != Some(wanted) {
            drains.changed().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, come).await;
    waited.with_context(|| format!("{:?} instead of {wanted:?}", drains.state(&key(1))))
}
