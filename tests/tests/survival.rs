//! The daemon can die and nobody notices: killed and stopped under load, restarted, and nothing flaps.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tests::images::Image;
use tests::load::{Connects, KeepAlive, Mixture, Place, Server, Service, go_on, run, run_for};
use tests::{Container, Node, wait_for};

const KEEP_ALIVE: u16 = 7001;
const PER_REQUEST: u16 = 7002;

/// How long a connection that should not come about may try.
const PATIENCE: Duration = Duration::from_millis(500);

const COMPOSE: &str = "
services:
  client: {image: 'busybox:latest', command: [sleep, inf]}
  server: {image: 'busybox:latest', command: [sleep, inf]}
";

#[test]
fn sigkill_and_sigterm_of_skepd_lose_nothing_and_a_restart_changes_nothing() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Busybox])?;
    node.up("shop", "production", COMPOSE)?;
    let before = identities(&node)?;
    let client = node.replica("shop", "production", "client", 1)?;
    let load = Mixture::between(&client, &node.replica("shop", "production", "server", 1)?)?;

    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        load.goes_on()?;
        match signal {
            Signal::SIGKILL => node.kill_skepd()?,
            _ => ensure!(node.stop_skepd()?.success(), "skepd's exit status after SIGTERM"),
        }
        // New work with the daemon dead, not only what was open before.
        load.goes_on()?;
        node.start_skepd()?;
        let after = identities(&node)?;
        ensure!(
            before == after,
            "{signal} and restart: pins, containers or devices changed\nbefore {before:#?}\nafter {after:#?}"
        );
    }
    load.goes_on()?;
    load.ends_well()
}

#[test]
fn flushing_the_firewall_leaves_isolation_intact() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Busybox])?;
    node.up("shop", "production", COMPOSE)?;
    node.up("blog", "production", COMPOSE)?;
    let server = node.replica("shop", "production", "server", 1)?;
    let place = |container: &Container<'_>| anyhow::Ok(Place::inside(container.netns()?));
    let _server = Server::start(place(&server)?, PER_REQUEST, Service::EchoOnce)?;
    let to: SocketAddr = (server.address()?.parse::<IpAddr>()?, PER_REQUEST).into();
    node.run(&["nft", "flush", "ruleset"])?;

    let neighbour = node.lan().neighbour()?;
    neighbour.run(&["ip", "route", "add", "10.192.0.0/10", "via", node.address4()])?;
    let attempt = |place: Place| run_for(place, Duration::from_millis(200), move || Connects::within(to, PATIENCE));
    let inside = attempt(place(&node.replica("shop", "production", "client", 1)?)?)?;
    ensure!(inside.exchanges > 0 && inside.failures == 0, "the control, inside the environment: {inside:?}");
    for (who, place) in [
        ("another project", place(&node.replica("blog", "production", "client", 1)?)?),
        ("the host", Place::inside(node.machine().netns()?)),
        ("a LAN neighbour", Place::inside(neighbour.netns()?)),
    ] {
        let tally = attempt(place)?;
        ensure!(tally.exchanges == 0 && tally.failures > 0, "{who} reached {to}: {tally:?}");
    }
    Ok(())
}

#[test]
fn a_replica_that_crashes_with_skepd_dead_comes_back_in_the_same_sandbox() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Busybox])?;
    node.up("shop", "production", COMPOSE)?;
    let known = |service| anyhow::Ok(node.replica("shop", "production", service, 1)?.replica().clone());
    let (client, server) = (known("client")?, known("server")?);
    node.kill_skepd()?;
    let (client, server) = (Container::new(&node, client), Container::new(&node, server));
    let workload = server.replica().container.as_deref().context("the server's container")?;
    let started = || node.docker(&["inspect", "--format", "{{.State.StartedAt}} {{.State.Running}}", workload]);
    let first = started()?;
    // The workload's own process dies, as in a crash; `docker kill` would count as a person's wish.
    let pid = node.docker(&["inspect", "--format", "{{.State.Pid}}", workload])?;
    node.run(&["kill", "-9", pid.trim()])?;
    wait_for("Docker starting the workload again", Duration::from_secs(20), || {
        let now = started()?;
        Ok((now != first && now.ends_with("true")).then_some(()))
    })?;
    let _server = Server::start(Place::inside(server.netns()?), KEEP_ALIVE, Service::Echo)?;
    let to: SocketAddr = (server.vip()?.parse::<IpAddr>()?, KEEP_ALIVE).into();
    let running = run(Place::inside(client.netns()?), move || KeepAlive::new(to));
    go_on(&[("request", running)])
}

/// What must stay the same, by independent readers: kernel ids behind every pin, container ids and start times, devices.
fn identities(node: &Node) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for path in node.run(&["find", "/sys/fs/bpf/skep", "-type", "f"])?.lines() {
        let kind = match path {
            _ if path.contains("/links/") => "link",
            _ if path.contains("/programs/") => "prog",
            _ => "map",
        };
        let shown = node.run(&["bpftool", "-j", kind, "show", "pinned", path])?;
        let shown: serde_json::Value = serde_json::from_str(&shown).with_context(|| format!("{path}: {shown}"))?;
        let id = shown.get("id").or_else(|| shown.get(0).and_then(|first| first.get("id")));
        found.insert(path.to_owned(), id.with_context(|| format!("{path}: no id in {shown}"))?.to_string());
    }
    let format = "{{.Names}} {{.ID}} {{.CreatedAt}}";
    for line in node.docker(&["ps", "--all", "--no-trunc", "--format", format])?.lines() {
        found.insert(format!("container {line}"), String::new());
    }
    for line in node.run(&["ip", "-br", "link"])?.lines() {
        found.insert(format!("device {line}"), String::new());
    }
    ensure!(found.keys().any(|key| key.contains("/links/")), "no pinned links: {found:#?}");
    Ok(found)
}
