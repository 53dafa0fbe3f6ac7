//! What the network between the nodes gets to see, and what it may bring in.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tests::images::Image;
use tests::load::{Place, Server, Service};
use tests::netns::Namespace;

use tests::raw::{self, Ipv4, Wire};
use tests::{Cluster, Container, Machine, Node, Process, wait_for};

use super::scene;

/// As that of the datagrams of [`tests::load::Mixture`].
const PORT: u16 = 7003;
/// In every payload; nothing else on the wire has these octets.
const MARK: &[u8] = b"skep-plaintext-must-not-be-seen";
const PAYLOADS: u32 = 1_000;
/// IANA's number of the protocol.
const ICMP: u8 = 1;
const FORGED: u64 = 5;
/// The userspace WireGuard device, in the words of `pgrep -f`; not the command that looks for it.
const TUNNEL: &str = "[s]kepd tunnel";

#[test]
fn nothing_that_replicas_say_is_seen_between_the_nodes_whatever_dies() -> Result<()> {
    let cluster = scene::cluster(2, &[Image::Busybox])?;
    let (client, server) = scene::apart(&cluster)?;
    let _server = Server::start(Place::inside(server.netns()?), PORT, Service::Datagrams)?;
    let capture = Capture::start(&cluster)?;
    talk_while(&client, &server, || {
        for node in cluster.nodes() {
            node.kill_skepd()?;
            end_tunnel(node)?;
            node.start_skepd()?;
            wait_for("the tunnel to be back", Duration::from_secs(30), || {
                Ok(node.output(&["pgrep", "-f", TUNNEL])?.status.success().then_some(()))
            })?;
            node.stop_docker(Signal::SIGKILL)?;
            node.start_docker()?;
        }
        cluster.etcd().kill()?;
        cluster.etcd().start_again()?;
        joins(&cluster)
    })?;
    capture.shows_no_plaintext()
}

/// A third node comes, and some of what is said to the service goes there.
fn joins(cluster: &Cluster) -> Result<()> {
    let third = cluster.another(&[])?;
    third.load(&[Image::Busybox])?;
    scene::only(cluster, &third)?;
    third.skepctl(&["-p", "shop", "scale", "server", "2"])?;
    let theirs = third.replica("shop", "production", "server", 2)?;
    ensure!(theirs.replica().node == third.machine().name(), "{:?}", theirs.replica());
    // Nobody listens there.
    wait_for("payloads to go to the third node", Duration::from_secs(30), || {
        let counters = theirs.net(&["cat", "/proc/net/snmp6"])?;
        let count = counters.lines().find_map(|line| line.strip_prefix("Udp6NoPorts")).context("no counter")?;
        Ok((count.trim().parse::<u32>()? > 0).then_some(()))
    })
}

/// What goes between the nodes.
pub(crate) struct Capture<'c> {
    wire: &'c Machine,
    file: PathBuf,
    tcpdump: Process,
}

impl<'c> Capture<'c> {
    pub(crate) fn start(cluster: &'c Cluster) -> Result<Self> {
        let wire = cluster.lan().machine();
        let file = wire.directory().join("wire.pcap");
        let mut tcpdump = wire.spawn("tcpdump", &["tcpdump", "-i", "any", "-U", "-w", &file.display().to_string()])?;
        wait_for("the capture to begin", Duration::from_secs(10), || {
            tcpdump.must_be_running()?;
            Ok(std::fs::metadata(&file).is_ok_and(|file| file.len() > 0).then_some(()))
        })?;
        Ok(Self { wire, file, tcpdump })
    }

    /// The tunnels, and nothing of [`talk_while`].
    pub(crate) fn shows_no_plaintext(mut self) -> Result<()> {
        self.tcpdump.kill()?;
        ensure!(!contains(&std::fs::read(&self.file)?, MARK), "a payload went between the nodes as it is");
        let file = self.file.display().to_string();
        let tunnelled = self.wire.run(&["tcpdump", "-r", &file, "-nn", "udp port 51820"])?.lines().count();
        ensure!(tunnelled > 1_000, "only {tunnelled} packets of the tunnels were captured: it proves nothing");
        Ok(())
    }
}

/// Payloads that must be seen nowhere, to [`PORT`] of the server, for as long as something else is done; they are answered
/// at the end.
pub(crate) fn talk_while(
    client: &Container<'_>,
    server: &Container<'_>,
    work: impl FnOnce() -> Result<()> + Send,
) -> Result<()> {
    let to: [SocketAddr; 2] =
        [(server.address()?.parse::<IpAddr>()?, PORT).into(), (server.vip6()?.parse::<IpAddr>()?, PORT).into()];
    // Docker may be away meanwhile.
    let from = client.netns()?;
    let talking = AtomicBool::new(true);
    let heard = thread::scope(|scope| {
        let talk = scope.spawn(|| talk(&from, &to, &talking));
        let working = scope.spawn(work);
        let worked = working.join().map_err(|_| anyhow::anyhow!("the work panicked"));
        talking.store(false, Ordering::Relaxed);
        let heard = talk.join().map_err(|_| anyhow::anyhow!("the talking panicked"))??;
        worked??;
        anyhow::Ok(heard)
    })?;
    println!("{} payloads sent, {} came back", heard.0, heard.1);
    ensure!(heard.0 >= PAYLOADS && heard.1 > 0, "{heard:?}");
    wait_for("an answer through the tunnels", Duration::from_secs(30), || {
        Ok((talk_once(&from, to[0])? > 0).then_some(()))
    })
}

/// A root of a node may send what it likes into its own tunnel: what has another node's address ends at the other end.
#[test]
fn a_node_that_uses_another_ones_addresses_gets_nowhere_and_is_told_of() -> Result<()> {
    let cluster = scene::cluster(3, &[Image::Busybox])?;
    let (client, server) = scene::apart(&cluster)?;
    let [first, second, third] = cluster.nodes() else { unreachable!("three nodes") };
    let forged = |of: &Node| -> Result<u64> {
        let row = scene::row(second, of)?;
        row["forged"].as_u64().with_context(|| format!("no count of forged packets in {row}"))
    };
    // The control: the third node's tunnel to the second works, for addresses of its own.
    scene::only(&cluster, third)?;
    first.up(
        "shop",
        "production",
        &format!("{}  third: {{image: 'busybox:latest', command: [sleep, inf]}}\n", scene::BOTH),
    )?;
    let own = third.replica("shop", "production", "third", 1)?;
    wait_for("the third node's replica to reach the second's", Duration::from_secs(20), || {
        Ok(own.net_output(&["ping", "-c1", "-W1", server.address()?])?.status.success().then_some(()))
    })?;
    ensure!(forged(third)? == 0, "nothing is forged so far");

    // As the third node's root: an address of the first node's replica, to the second's replica, by the third's tunnel.
    let packet =
        Ipv4::new(client.address()?.parse()?, server.address()?.parse()?, ICMP, raw::echo_request4(1, 1, MARK));
    third.machine().netns()?.enter(|| {
        let wire = Wire::open("skep0")?;
        (0..FORGED).try_for_each(|_| Ok(wire.send(&packet.bytes())?))
    })?;
    wait_for("the second node to count what is forged", Duration::from_secs(10), || {
        Ok((forged(third)? == FORGED).then_some(()))
    })?;
    ensure!(forged(first)? == 0, "the first node has not forged anything");
    Ok(())
}

fn talk(from: &Namespace, to: &[SocketAddr], go_on: &AtomicBool) -> Result<(u32, u32)> {
    let (mut sent, mut heard) = (0, 0);
    while sent < PAYLOADS || go_on.load(Ordering::Relaxed) {
        for to in to {
            heard += talk_once(from, *to)?;
            sent += 1;
        }
    }
    Ok((sent, heard))
}

/// Sends one payload; how many came back.
fn talk_once(from: &Namespace, to: SocketAddr) -> Result<u32> {
    from.enter(|| {
        let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        // With no tunnel there is nobody; that is what this is about.
        if socket.send_to(MARK, to).is_err() {
            return Ok(0);
        }
        let mut buffer = [0; 64];
        Ok(u32::from(socket.recv(&mut buffer).is_ok_and(|length| buffer[..length] == *MARK)))
    })
}

fn end_tunnel(node: &Node) -> Result<()> {
    node.run(&["pkill", "-KILL", "-f", TUNNEL])?;
    Ok(())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
