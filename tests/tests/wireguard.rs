//! WireGuard between network namespaces: userspace devices, and the kernel's where it has WireGuard. What goes through is
//! asked with ping and TCP; who may do what is asked of /proc.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane::wireguard::{Change, Kind, Peer, PrivateKey, Seen, Wanted};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::{load, wait_for};

#[path = "wireguard/process.rs"]
mod process;
#[path = "wireguard/segments.rs"]
mod segments;
#[path = "wireguard/stage.rs"]
mod stage;

use stage::{Node, Underlay, kinds, make_so, mesh};

const DEADLINE: Duration = Duration::from_secs(10);

/// A stream of pings at 100 a second, until it is told to end.
struct Pings(Child);

impl Pings {
    fn start(node: &Node, to: &str) -> Result<Self> {
        let mut ping = node.netns.command("ping");
        let mut child = ping.args(["-n", "-i", "0.01", "-W", "1", to]).stdout(Stdio::piped()).spawn()?;
        // It goes through before anything is done to it.
        let mut lines = BufReader::new(child.stdout.as_mut().context("no output")?).lines();
        lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("bytes from"))).context("no answer")??;
        Ok(Self(child))
    }

    /// How many were sent, and how many of them were answered.
    fn end(mut self) -> Result<(u32, u32)> {
        kill(Pid::from_raw(self.0.id().try_into()?), Signal::SIGINT)?;
        let mut said = String::new();
        self.0.stdout.take().context("no output")?.read_to_string(&mut said)?;
        self.0.wait()?;
        let line = said.lines().find(|line| line.contains("packets transmitted")).context("no summary")?;
        let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
        Ok((numbers.next().context("sent")?, numbers.next().context("received")?))
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        let _ended_before = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// Octets through a connection from one node to another, and back.
fn stream(from: &Node, to: &Node, octets: usize) -> Result<()> {
    load::there_and_back(&from.netns, &to.netns, [10, to.number, 0, 1].into(), octets)
}

#[test]
fn nodes_reach_each_other_and_a_second_look_changes_nothing() -> Result<()> {
    for kind in kinds()? {
        let (_underlay, nodes) = mesh(2, kind)?;
        let [a, b] = &nodes[..] else { unreachable!() };
        a.reaches(2, 1420)?;
        b.reaches(1, 1420)?;
        stream(a, b, 8 << 20)?;
        let seen = a.see()?;
        let peer = &seen.peers[&b.key()?];
        ensure!(seen.kind == kind && seen.up && seen.mtu == 1420 && seen.port == 51820, "{seen:?}");
        ensure!(peer.is_alive(seen.at) && peer.rx > 8 << 20 && peer.tx > 8 << 20, "{peer:?}");
        ensure!(seen.foreign == 0, "{seen:?}");
        let done = a.make_so(&a.wanted(&[b.as_peer()?]))?;
        ensure!(done.is_empty(), "{done:?}");
    }
    Ok(())
}

#[test]
fn a_change_of_one_peer_is_felt_by_no_other() -> Result<()> {
    for kind in kinds()? {
        let (_underlay, nodes) = mesh(3, kind)?;
        let [a, b, c] = &nodes[..] else { unreachable!() };
        let before = a.see()?;
        let (to_b, to_c) = (Pings::start(a, "10.2.0.1")?, Pings::start(c, "10.1.0.1")?);
        let handshakes = |seen: &Seen| -> Result<Vec<_>> {
            Ok(vec![seen.peers[&b.key()?].last_handshake, seen.peers[&c.key()?].last_handshake])
        };
        let agreed = handshakes(&a.see()?)?;
        ensure!(agreed.iter().all(Option::is_some), "{before:?}");
        // B has another prefix, and then none of its first ones but that which is pinged; a stranger comes and goes.
        let more = |prefixes: &[&str]| -> Result<Peer> {
            let mut peer = b.as_peer()?;
            for prefix in prefixes {
                peer.allowed.insert(prefix.parse()?);
            }
            Ok(peer)
        };
        let stranger = Peer { key: PrivateKey::generate()?.public(), endpoint: None, ..more(&["10.77.0.0/24"])? };
        let stranger = Peer { allowed: ["10.77.0.0/24".parse()?].into(), ..stranger };
        let done = a.make_so(&a.wanted(&[more(&["10.9.0.0/24"])?, c.as_peer()?, stranger.clone()]))?;
        ensure!(done.len() == 2 && done.iter().all(|change| matches!(change, Change::PutPeer(_))), "{done:?}");
        let done = a.make_so(&a.wanted(&[b.as_peer()?, c.as_peer()?]))?;
        ensure!(done.contains(&Change::RemovePeer(stranger.key)) && done.len() == 2, "{done:?}");
        let after = a.see()?;
        ensure!(handshakes(&after)? == agreed, "{after:?} was agreed on anew, after {agreed:?}");
        for (peer, what) in [(b.key()?, "b"), (c.key()?, "c")] {
            ensure!(after.peers[&peer].rx >= before.peers[&peer].rx, "counters of {what} begin anew");
        }
        for (pings, what) in [(to_b, "to b"), (to_c, "from c")] {
            let (sent, received) = pings.end()?;
            // The last one may still be on its way.
            ensure!(sent - received <= 1, "{what}: {received} of {sent}");
        }
    }
    Ok(())
}

#[test]
fn what_comes_from_an_address_that_is_not_the_senders_is_dropped_and_counted() -> Result<()> {
    for kind in kinds()? {
        let (_underlay, nodes) = mesh(3, kind)?;
        let [a, b, c] = &nodes[..] else { unreachable!() };
        a.reaches(2, 1420)?;
        c.reaches(2, 1420)?;
        // C's addresses, by A: one of each family.
        a.netns.run("ip addr add 10.3.0.1/32 dev lo")?;
        a.netns.run("ip -6 addr add fd00:3::1/128 dev lo nodad")?;
        let sent = a.netns.run("ping -4 -n -c 5 -i 0.05 -W 1 -I 10.3.0.1 10.2.0.1");
        ensure!(sent.is_err(), "A is answered as if it were C");
        let sent = a.netns.run("ping -6 -n -c 4 -i 0.05 -W 1 -I fd00:3::1 fd00:2::1");
        ensure!(sent.is_err(), "A is answered as if it were C");
        let seen = b.see()?;
        ensure!(seen.foreign == 9, "{seen:?}");
        if kind == Kind::Userspace {
            ensure!(seen.peers[&a.key()?].foreign == Some(9) && seen.peers[&c.key()?].foreign == Some(0), "{seen:?}");
        }
        a.reaches(2, 1420)?;
        c.reaches(2, 1420)?;
    }
    Ok(())
}

#[test]
fn another_port_and_another_address_of_a_peer_break_nothing() -> Result<()> {
    for kind in kinds()? {
        let (_underlay, nodes) = mesh(2, kind)?;
        let [a, b] = &nodes[..] else { unreachable!() };
        let pings = Pings::start(b, "10.1.0.1")?;
        let wanted = Wanted { port: 40_000, ..b.wanted(&[a.as_peer()?]) };
        ensure!(b.make_so(&wanted)? == [Change::SetPort(40_000)]);
        let learned = wait_for("A to learn of the port", DEADLINE, || {
            Ok(a.see()?.peers[&b.key()?].peer.endpoint.filter(|endpoint| endpoint.port() == 40_000))
        })?;
        ensure!(learned == ([192, 0, 2, 2], 40_000).into());
        // What the store says of B is still its old port; while there is a session that is not held against it.
        ensure!(a.make_so(&a.wanted(&[b.as_peer()?]))?.is_empty());
        b.netns.run("ip addr del 192.0.2.2/24 dev eth0")?;
        b.netns.run("ip addr add 192.0.2.22/24 dev eth0")?;
        b.reaches(1, 1420)?;
        a.reaches(2, 1420)?;
        let (sent, received) = pings.end()?;
        ensure!(sent - received <= 20, "{received} of {sent}");
        // Nobody listens on the old port.
        b.netns.enter(|| Ok(std::net::UdpSocket::bind("0.0.0.0:51820")?))?;
    }
    Ok(())
}

#[test]
fn a_key_is_changed_with_few_packets_lost() -> Result<()> {
    for kind in kinds()? {
        let (_underlay, nodes) = mesh(3, kind)?;
        let [a, b, c] = &nodes[..] else { unreachable!() };
        let (to_b, to_c) = (Pings::start(a, "10.2.0.1")?, Pings::start(a, "10.3.0.1")?);
        let before = b.as_peer()?;
        let key = b.with(async |tunnel| {
            tunnel.make_next_key()?;
            tunnel.keys().next.context("there is no next key")
        })?;
        let renewed = Peer { key, ..before.clone() };
        // Its peers first: both keys are known, and the addresses are still the present one's.
        let next = Peer { allowed: Default::default(), takes_over: Some(before.key), ..renewed.clone() };
        for (node, other) in [(a, c), (c, a)] {
            node.make_so(&node.wanted(&[before.clone(), next.clone(), other.as_peer()?]))?;
        }
        b.reaches(1, 1420)?;
        let wanted = b.wanted(&[a.as_peer()?, c.as_peer()?]);
        b.with(async move |tunnel| {
            tunnel.switch_key()?;
            let done = make_so(&tunnel, &wanted, kind).await?;
            ensure!(done == [Change::SetPrivateKey], "{done:?}");
            Ok(())
        })?;
        if kind == Kind::Userspace {
            // By itself: nobody has told A.
            b.reaches(1, 1420)?;
            let seen = a.see()?;
            ensure!(seen.peers[&key].peer.allowed == renewed.allowed && seen.foreign == 0, "{seen:?}");
            ensure!(seen.peers[&before.key].peer.allowed.is_empty(), "{seen:?}");
        }
        for (node, other) in [(a, c), (c, a)] {
            node.make_so(&node.wanted(&[renewed.clone(), other.as_peer()?]))?;
        }
        a.reaches(2, 1420)?;
        b.reaches(1, 1420)?;
        let (sent, received) = to_c.end()?;
        ensure!(sent - received <= 1, "a third node feels it: {received} of {sent}");
        let (sent, received) = to_b.end()?;
        println!("{received} of {sent} pings through a change of the key");
        ensure!(received * 10 >= sent * 9, "{received} of {sent}");
    }
    Ok(())
}

#[test]
fn long_packets_fit_when_the_underlay_takes_them() -> Result<()> {
    for kind in kinds()? {
        let underlay = Underlay::new(9000)?;
        let (a, b) = (Node::new(&underlay, 1, kind)?, Node::new(&underlay, 2, kind)?);
        for (node, other) in [(&a, &b), (&b, &a)] {
            let wanted = Wanted { mtu: 8920, ..node.wanted(&[other.as_peer()?]) };
            node.make_so(&wanted)?;
        }
        a.reaches(2, 8920)?;
        stream(&a, &b, 8 << 20)?;
    }
    Ok(())
}

#[test]
fn keepalives_open_a_session_by_themselves() -> Result<()> {
    for kind in kinds()? {
        let underlay = Underlay::new(1500)?;
        let (a, b) = (Node::new(&underlay, 1, kind)?, Node::new(&underlay, 2, kind)?);
        // A cannot be reached by its address in the store: it is behind a NAT, and has to speak first.
        b.make_so(&b.wanted(&[Peer { endpoint: None, ..a.as_peer()? }]))?;
        a.make_so(&a.wanted(&[Peer { keepalive: Some(1), ..b.as_peer()? }]))?;
        let seen = wait_for("a session", DEADLINE, || {
            let seen = b.see()?;
            Ok(seen.peers[&a.key()?].is_alive(seen.at).then_some(seen))
        })?;
        ensure!(seen.peers[&a.key()?].peer.endpoint == Some(([192, 0, 2, 1], 51820).into()), "{seen:?}");
        b.reaches(1, 1420)?;
        let before = b.see()?.peers[&a.key()?].rx;
        wait_for("an empty packet", DEADLINE, || Ok((b.see()?.peers[&a.key()?].rx > before).then_some(())))?;
    }
    Ok(())
}
