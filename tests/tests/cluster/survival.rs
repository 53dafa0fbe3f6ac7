//! Nobody notices what happens to daemons and to etcd: not between nodes, either.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use tests::images::Image;
use tests::load::Mixture;
use tests::{Node, wait_for};

use super::scene;

/// etcd is away for so long in the long form.
const LONG: Duration = Duration::from_secs(5 * 60);
/// So soon is caught up with after etcd's return.
const CAUGHT_UP: Duration = Duration::from_secs(5);

#[test]
fn skepd_and_etcd_may_die_while_nodes_talk() -> Result<()> {
    let cluster = scene::cluster(2, &[Image::Busybox])?;
    let (client, server) = scene::apart(&cluster)?;
    let load = Mixture::between(&client, &server)?;
    for node in cluster.nodes() {
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            load.goes_on()?;
            match signal {
                Signal::SIGKILL => node.kill_skepd()?,
                _ => ensure!(node.stop_skepd()?.success(), "skepd's exit status after SIGTERM"),
            }
            load.goes_on()?;
            node.start_skepd()?;
        }
    }
    load.goes_on()?;

    let first = &cluster.nodes()[0];
    cluster.etcd().kill()?;
    load.goes_on()?;
    let refused = first.skepctl_output(&["-p", "shop", "scale", "client", "2", "--no-wait"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && said.contains("etcd"), "a change while etcd is away: {said}");
    ensure!(first.replicas()?.len() == 2, "what is known is told");
    // Daemons that are started meanwhile go on from what they knew.
    first.kill_skepd()?;
    first.start_skepd()?;
    ensure!(first.replicas()?.len() == 2, "what was known is told by the next daemon");
    // Local restarts are nobody else's business.
    let workload = client.replica().container.clone().unwrap_or_default();
    let pid = first.docker(&["inspect", "--format", "{{.State.Pid}}", &workload])?;
    first.run(&["kill", "-9", pid.trim()])?;
    wait_for("Docker starting the workload again", Duration::from_secs(20), || {
        let now = first.docker(&["inspect", "--format", "{{.State.Pid}} {{.State.Running}}", &workload])?;
        Ok((now.ends_with("true") && !now.starts_with(pid.trim())).then_some(()))
    })?;
    load.goes_on()?;

    // Nothing ends because it takes long.
    let away = Instant::now();
    while std::env::var_os("SKEP_LONG").is_some() && away.elapsed() < LONG {
        load.goes_on()?;
    }

    cluster.etcd().start_again()?;
    catches_up(first)?;
    load.goes_on()?;
    load.ends_well()
}

#[test]
fn a_full_etcd_is_told_of_and_nobody_else_notices() -> Result<()> {
    let cluster = scene::cluster(2, &[Image::Busybox])?;
    let (client, server) = scene::apart(&cluster)?;
    let load = Mixture::between(&client, &server)?;
    let [first, second] = cluster.nodes() else { unreachable!("two nodes") };
    cluster.etcd().kill()?;
    // Less than it has already.
    cluster.etcd().start_again_with(&["--quota-backend-bytes", "10000"])?;
    wait_for("a change to be refused, with the remedy", Duration::from_secs(20), || {
        let asked = first.skepctl_output(&["-p", "shop", "scale", "client", "2", "--no-wait"])?;
        let said = String::from_utf8_lossy(&asked.stderr).into_owned();
        Ok((!asked.status.success() && said.contains("etcdctl alarm disarm")).then_some(()))
    })?;
    for node in [first, second] {
        load.goes_on()?;
        node.kill_skepd()?;
        load.goes_on()?;
        node.start_skepd()?;
        ensure!(node.replicas()?.len() == 2, "what is known is told");
    }
    load.goes_on()?;

    cluster.etcd().kill()?;
    cluster.etcd().start_again()?;
    cluster.etcd().disarm()?;
    catches_up(first)?;
    load.goes_on()?;
    load.ends_well()
}

/// Changes are taken again at once, and made.
fn catches_up(node: &Node) -> Result<()> {
    let back = Instant::now();
    wait_for("a change to be accepted", Duration::from_secs(20), || {
        let asked = node.skepctl_output(&["-p", "shop", "scale", "client", "2", "--no-wait"])?;
        Ok(asked.status.success().then_some(()))
    })?;
    let accepted = back.elapsed();
    println!("a change was accepted {accepted:?} after etcd's return");
    ensure!(accepted < CAUGHT_UP, "a change was accepted only {accepted:?} after etcd's return");
    wait_for("the second replica", Duration::from_secs(60), || {
        Ok((node.replicas()?.iter().filter(|replica| replica.state == "running").count() == 3).then_some(()))
    })
}
