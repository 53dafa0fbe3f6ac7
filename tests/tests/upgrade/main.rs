//! An upgrade to the next version of the ABI and the way back, under load; and from what an earlier version left.
//!
//! The next version is `skepd-next`, this very tree with three maps laid out otherwise:
//! `cargo build -p dataplane --features next-abi --bin skepd-next`.

mod artefact;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::faults::{self, Cost, Fault, Scene};
use tests::{Lan, Node, wait_for};

/// What each version is and which directory its pins are in.
const THIS: (&str, &str) = ("skepd", "v2");
const NEXT: (&str, &str) = ("skepd-next", "v3");
/// The maps that the next version lays out otherwise.
const CHANGED: [&str; 3] = ["COUNTERS", "ENDPOINTS", "FLOWS"];
/// Ports of the scene's servers.
const KEEP_ALIVE: u16 = 7001;
const DATAGRAMS: u16 = 7003;
/// A port beyond the cluster.
const OUTSIDE: u16 = 7009;
/// skepd takes this long to start on a busy computer; the kernel verifies programs meanwhile.
const DEADLINE: Duration = Duration::from_secs(60);

const THERE_AND_BACK: Fault = Fault {
    name: "skepd of the next ABI version, and back",
    inject: there_and_back,
    within: Duration::from_secs(30),
    cost: Cost::Nothing,
    visitor: None,
};
const BROKEN_OFF: Fault = Fault {
    name: "upgrade and way back killed at each stage",
    inject: broken_off,
    within: Duration::from_secs(30),
    cost: Cost::Nothing,
    visitor: None,
};

#[test]
fn another_version_takes_over_and_gives_back_and_no_request_fails() -> Result<()> {
    let mut scene = Scene::start(Node::builder())?;
    faults::all(&mut scene, &[THERE_AND_BACK, BROKEN_OFF])?;
    scene.end()
}

fn there_and_back(scene: &Scene) -> Result<()> {
    let node = &scene.node;
    let mut talks = Talks::begin(scene)?;
    let (maps, links) = (ids(node, THIS, "map")?, ids(node, THIS, "link")?);
    let (flows, sent) = (dump(node, THIS, "FLOWS")?, sent(node, THIS)?);
    ensure!(
        !flows.is_empty() && sent.len() > 1 && links.len() > 8,
        "nothing to take over: {flows:?} {sent:?} {links:?}"
    );

    become_version(node, THIS, NEXT)?;
    let now = ids(node, NEXT, "map")?;
    ensure!(ids(node, NEXT, "link")? == links, "a link was made anew");
    for (name, id) in &maps {
        let shared = now.get(name) == Some(id);
        ensure!(shared != CHANGED.contains(&name.as_str()), "{name}: {id}, then {:?}", now.get(name));
    }
    let kept = dump(node, NEXT, "FLOWS")?;
    ensure!(flows.keys().all(|key| kept.contains_key(key)), "flows are lost: {flows:?}, then {kept:?}");
    let counted = self::sent(node, NEXT)?;
    let less = sent.iter().find(|(key, packets)| counted.get(*key).is_none_or(|now| now < packets));
    ensure!(less.is_none(), "a counter fell: {less:?} in {sent:?}, then {counted:?}");
    // The side that did not begin goes on first: nothing but the flow lets this in.
    talks.outside_speaks().context("after the upgrade")?;
    talks.sockets_remember().context("after the upgrade")?;

    become_version(node, NEXT, THIS)?;
    ensure!(ids(node, THIS, "link")? == links, "a link was made anew on the way back");
    let back = ids(node, THIS, "map")?;
    let changed = back.iter().filter(|(name, id)| now.get(*name) != Some(id)).map(|(name, _)| name.as_str());
    ensure!(changed.eq(CHANGED), "maps after the way back: {now:?}, then {back:?}");
    // A layout that is not known is not kept: who began the flow begins it anew, and all goes on.
    talks.inside_speaks().context("after the way back")?;
    talks.outside_speaks().context("after the way back")?;
    talks.sockets_remember().context("after the way back")
}

/// Kills whoever takes over at each stage of it, as told by what it has pinned; the other version goes on from there.
fn broken_off(scene: &Scene) -> Result<()> {
    let node = &scene.node;
    node.stop_skepd()?;
    let pinned = |(_, directory): (&str, &str)| files(&node.bpffs().join(directory));
    for (round, stage) in [2, 15, 18, 20, 29, 32, 38].into_iter().enumerate() {
        let version = if round % 2 == 0 { NEXT } else { THIS };
        node.start_as_skepd(version.0)?;
        let end = Instant::now() + DEADLINE;
        while pinned(version) < stage {
            ensure!(Instant::now() < end, "{} pinned {} of {stage}", version.0, pinned(version));
        }
        println!("    {} killed with {} pins", version.0, pinned(version));
        node.kill_skepd()?;
    }
    node.start_as_skepd(THIS.0)?;
    gone(node, NEXT)
}

/// Stops one version, starts the other, and waits until nothing of the first is left.
fn become_version(node: &Node, from: (&str, &str), to: (&str, &str)) -> Result<()> {
    ensure!(node.stop_skepd()?.success(), "skepd's exit status after SIGTERM");
    node.start_as_skepd(to.0)?;
    gone(node, from)
}

fn gone(node: &Node, (_, directory): (&str, &str)) -> Result<()> {
    let path = node.bpffs().join(directory);
    wait_for(&format!("{directory} gone"), DEADLINE, || Ok((!path.exists()).then_some(())))
}

/// How many files there are, at any depth; what goes away meanwhile does not count.
fn files(directory: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

/// Connections and questions of before.
struct Talks {
    vip: IpAddr,
    /// To the VIP.
    connection: TcpStream,
    /// Asked the VIP; the answer is not yet read.
    datagrams: UdpSocket,
    /// Both ends of a connection from a replica to the internet.
    inside: TcpStream,
    outside: TcpStream,
}

impl Talks {
    fn begin(scene: &Scene) -> Result<Self> {
        let api = scene.replica("shop", "production", "api", 1)?;
        let vip: IpAddr = scene.replica("shop", "production", "web", 1)?.vip()?.parse()?;
        let server: SocketAddr = (Lan::OUTSIDE4.parse::<IpAddr>()?, OUTSIDE).into();
        let listener = scene.node.lan().machine().netns()?.enter(|| Ok(TcpListener::bind(server)?))?;
        let (connection, datagrams, inside) = api.netns()?.enter(|| {
            let datagrams = UdpSocket::bind("0.0.0.0:0")?;
            datagrams.send_to(b"once", (vip, DATAGRAMS))?;
            Ok((TcpStream::connect((vip, KEEP_ALIVE))?, datagrams, TcpStream::connect(server)?))
        })?;
        let (outside, _) = listener.accept()?;
        for stream in [&connection, &inside, &outside] {
            stream.set_read_timeout(Some(tests::load::PATIENCE))?;
        }
        datagrams.set_read_timeout(Some(tests::load::PATIENCE))?;
        Ok(Self { vip, connection, datagrams, inside, outside })
    }

    fn outside_speaks(&mut self) -> Result<()> {
        self.outside.write_all(b"x")?;
        self.inside.read_exact(&mut [0]).context("what the internet sends on a connection of before")
    }

    fn inside_speaks(&mut self) -> Result<()> {
        self.inside.write_all(b"x")?;
        self.outside.read_exact(&mut [0]).context("what a replica sends to the internet on a connection of before")
    }

    /// A socket that was translated before is still told the VIP, by getpeername and recvmsg.
    fn sockets_remember(&mut self) -> Result<()> {
        let peer = self.connection.peer_addr()?;
        ensure!(peer == (self.vip, KEEP_ALIVE).into(), "getpeername says {peer}");
        self.connection.write_all(b"x")?;
        self.connection.read_exact(&mut [0])?;
        let (_, from) = self.datagrams.recv_from(&mut [0; 4]).context("an answer of before")?;
        ensure!(from == (self.vip, DATAGRAMS).into(), "recvmsg says {from}");
        self.datagrams.send_to(b"more", from)?;
        Ok(())
    }
}

/// Kernel ids behind the pins of a version, by name.
fn ids(node: &Node, (_, directory): (&str, &str), kind: &str) -> Result<BTreeMap<String, u64>> {
    let below = if kind == "link" { "/links" } else { "" };
    let found = node.run(&["find", &format!("/sys/fs/bpf/skep/{directory}{below}"), "-maxdepth", "1", "-type", "f"])?;
    let id = |path: &str| {
        let shown = bpftool(node, &[kind, "show", "pinned", path])?;
        let id = shown["id"].as_u64().with_context(|| format!("{path}: no id in {shown}"))?;
        Ok((path.rsplit('/').next().unwrap_or_default().to_owned(), id))
    };
    found.lines().map(id).collect()
}

/// What a map holds, keys and values as `bpftool` writes them.
fn dump(node: &Node, (_, directory): (&str, &str), map: &str) -> Result<BTreeMap<String, Value>> {
    let shown = bpftool(node, &["map", "dump", "pinned", &format!("/sys/fs/bpf/skep/{directory}/{map}")])?;
    let entries = shown.as_array().with_context(|| format!("{map}: {shown}"))?;
    Ok(entries.iter().map(|entry| (entry["key"].to_string(), entry.clone())).collect())
}

/// Packets that each identity sent: the first word of the value of each CPU.
fn sent(node: &Node, version: (&str, &str)) -> Result<BTreeMap<String, u64>> {
    let octet = |value: &Value| u64::from_str_radix(value.as_str()?.trim_start_matches("0x"), 16).ok();
    let word = |value: &Value| {
        let octets = value["value"].as_array()?.iter().take(8);
        octets.rev().try_fold(0, |word, value| Some(word << 8 | octet(value)?))
    };
    let packets = |(key, entry): (String, Value)| {
        let values = entry["values"].as_array()?.iter();
        Some((key, values.map(word).sum::<Option<u64>>()?))
    };
    let entries = dump(node, version, "COUNTERS")?.into_iter();
    entries.map(packets).collect::<Option<_>>().context("COUNTERS are not as bpftool writes them")
}

fn bpftool(node: &Node, arguments: &[&str]) -> Result<Value> {
    let text = node.run(&[&["bpftool", "-j"], arguments].concat())?;
    serde_json::from_str(&text).with_context(|| format!("bpftool {}: {text}", arguments.join(" ")))
}
