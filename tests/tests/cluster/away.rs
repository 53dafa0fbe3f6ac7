//! A node that goes away, and comes back.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::images::Image;
use tests::load::{Connects, Place, Server, Service, run};
use tests::wait_for;

use super::scene;

const PORT: u16 = 7002;
/// A connection that has to be tried again is tried again so soon.
const ATTEMPT: Duration = Duration::from_millis(300);
/// The lease of a node, and what it takes to notice.
const LEASE: Duration = Duration::from_secs(15);

const COMPOSE: &str = "
services:
  web: {image: 'busybox:latest', command: [sleep, inf], deploy: {replicas: 2}}
";

#[test]
fn requests_go_on_without_a_node_that_is_away_and_its_replicas_run_elsewhere() -> Result<()> {
    let cluster = scene::cluster(3, &[Image::Busybox])?;
    let [first, second, third] = cluster.nodes() else { unreachable!("three nodes") };
    // Who asks has no server next door, which would always answer.
    first.skepctl(&["nodes", "cordon", first.machine().name()])?;
    first.up("shop", "production", COMPOSE)?;
    let mut servers = Vec::new();
    for replica in first.replicas()? {
        ensure!(replica.node != first.machine().name(), "{replica:?}");
        let node = scene::node_of(&cluster, &replica.node)?;
        let container = node.replica("shop", "production", "web", replica.replica)?;
        servers.push(Server::start(Place::inside(container.netns()?), PORT, Service::EchoOnce)?);
    }
    scene::only(&cluster, first)?;
    first.up(
        "shop",
        "production",
        &format!("{COMPOSE}  client: {{image: 'busybox:latest', command: [sleep, inf]}}\n"),
    )?;
    let client = first.replica("shop", "production", "client", 1)?;
    scene::only(&cluster, second)?;
    let vip: SocketAddr = (vip(first)?, PORT).into();
    let asking = run(Place::inside(client.netns()?), move || Connects::within(vip, ATTEMPT));
    wait_for("requests", Duration::from_secs(20), || Ok((asking.exchanges() > 100).then_some(())))?;
    ensure!(asking.failures() == 0, "{:?}", asking.first_failure());

    // As when the cable is pulled: nothing of it is heard any more, and it does not know why.
    scene::cable(&cluster, third, "down")?;
    let cut = Instant::now();
    wait_for("the node to be away for the others", LEASE, || {
        Ok((scene::row(first, third)?["state"] == "away").then_some(()))
    })?;
    println!("away for the others after {:?}", cut.elapsed());
    // One that was under way then may still fail; after the next that succeeds, none may.
    let before = asking.exchanges();
    wait_for("a request that succeeds", Duration::from_secs(5), || Ok((asking.exchanges() > before).then_some(())))?;
    let failed = asking.failures();
    ensure!(failed > 0, "nobody noticed: the test does not ask the node that is away");
    let before = asking.exchanges();
    wait_for("requests without it", Duration::from_secs(20), || {
        Ok((asking.exchanges() > before + 3_000).then_some(()))
    })?;
    // The replica that comes in its place has nothing of the test's that answers.
    let tally = asking.stop()?;
    println!("{} requests, {} failed, all before the node was away for the others", tally.exchanges, tally.failures);
    ensure!(tally.failures == failed, "requests still fail: {tally:?}");

    wait_for("its replica to run elsewhere", Duration::from_secs(60), || {
        let replicas = first.replicas()?;
        let web: Vec<_> = replicas.iter().filter(|replica| replica.service == "web").collect();
        let there = web.iter().any(|replica| replica.node == third.machine().name());
        Ok((!there && web.iter().filter(|replica| replica.state == "running").count() == 2).then_some(()))
    })?;
    println!("elsewhere after {:?}", cut.elapsed());

    scene::cable(&cluster, third, "up")?;
    wait_for("the node to be back, without what is elsewhere now", Duration::from_secs(60), || {
        let left = third.docker(&["ps", "--all", "--quiet", "--filter", "label=skep.service=web"])?;
        Ok((left.is_empty() && scene::row(first, third)?["state"] != "away").then_some(()))
    })?;
    Ok(())
}

fn vip(node: &tests::Node) -> Result<IpAddr> {
    let services = node.skepctl_json(&["-p", "shop", "services"])?;
    let web = services.as_array().and_then(|all| all.iter().find(|service| service["service"] == "web"));
    let vip = web.and_then(|web| web["vip"].as_str()).unwrap_or_default();
    Ok(vip.parse()?)
}
