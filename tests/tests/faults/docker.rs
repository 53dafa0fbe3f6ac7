//! Docker's bad nights, and what people do to containers.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tests::faults::{Cost, Fault, Scene};
use tests::wait_for;

/// Until what a person did to a container is undone.
const SOON: Duration = Duration::from_secs(10);
/// The same where a sandbox ended, and with it the network of its workload, which is given time to end by itself.
const ANEW: Duration = Duration::from_secs(20);
/// dockerd takes its time to adopt what runs.
const RESTART: Duration = Duration::from_secs(30);
/// Longer than skepd waits for an answer.
const HANG: Duration = Duration::from_secs(6);

/// The faults of this part; those that are much like another one with `SKEP_LONG` only.
pub(crate) fn faults() -> Vec<Fault> {
    match std::env::var_os("SKEP_LONG") {
        None => FAULTS.to_vec(),
        Some(_) => [FAULTS, MORE].concat(),
    }
}

const FAULTS: &[Fault] = &[
    fault("dockerd: SIGTERM and a start, with live-restore", restart_docker, RESTART, Cost::Nothing),
    fault("dockerd: SIGKILL and a start, with live-restore", kill_docker, RESTART, Cost::Nothing),
    fault("dockerd: SIGSTOP for a while", hang_docker, SOON, Cost::Nothing),
    fault("skepd: a start without Docker", start_without_docker, RESTART, Cost::Nothing),
    fault("docker system prune --all", prune, SOON, Cost::Nothing),
    fault("docker rmi of the pause image, rm of a sandbox", remove_pause, ANEW, Cost::Interruption),
    fault("docker stop of a workload", |scene| workload(scene, &["stop"]), SOON, Cost::Interruption),
    fault("docker restart of a workload", |scene| workload(scene, &["restart"]), SOON, Cost::Interruption),
    fault("docker pause of a workload", |scene| workload(scene, &["pause"]), SOON, Cost::Interruption),
    fault("docker stop of a sandbox", |scene| sandbox(scene, &["stop"]), ANEW, Cost::Interruption),
    fault("docker restart of a sandbox", restart_sandbox, ANEW, Cost::Interruption),
    fault("docker rename of a sandbox", |scene| rename(scene, &web(scene)?.1), SOON, Cost::Nothing),
];

const MORE: &[Fault] = &[
    fault("docker kill of a workload", |scene| workload(scene, &["kill"]), SOON, Cost::Interruption),
    fault("docker rename of a workload", |scene| rename(scene, &web(scene)?.0), SOON, Cost::Nothing),
    fault("docker kill of a sandbox", |scene| sandbox(scene, &["kill"]), ANEW, Cost::Interruption),
    fault("docker pause of a sandbox", |scene| sandbox(scene, &["pause"]), SOON, Cost::Nothing),
];

const fn fault(name: &'static str, inject: fn(&Scene) -> Result<()>, within: Duration, cost: Cost) -> Fault {
    Fault { name, inject, within, cost, visitor: None }
}

fn restart_docker(scene: &Scene) -> Result<()> {
    scene.node.stop_docker(Signal::SIGTERM)?;
    scene.node.start_docker()
}

fn kill_docker(scene: &Scene) -> Result<()> {
    scene.node.stop_docker(Signal::SIGKILL)?;
    scene.node.start_docker()
}

/// `skepctl ps` says of every replica that Docker does not answer, and skepd says it once.
fn told(scene: &Scene) -> Result<()> {
    let hint = "Docker has not answered for";
    wait_for("a hint of `skepctl ps`", Duration::from_secs(15), || {
        let table = scene.node.skepctl(&["ps"])?;
        Ok((table.matches(hint).count() == scene.node.replicas()?.len()).then_some(()))
    })
}

fn complaints(scene: &Scene) -> Result<usize> {
    Ok(scene.node.skepd_log()?.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count())
}

fn hang_docker(scene: &Scene) -> Result<()> {
    let before = complaints(scene)?;
    let device = device(scene)?;
    scene.node.signal_docker(Signal::SIGSTOP)?;
    let hung = || -> Result<()> {
        told(scene)?;
        // Nothing but time shows that it goes on without one complaint after the other.
        std::thread::sleep(HANG);
        let complaints = complaints(scene)? - before;
        ensure!(complaints <= 3, "{complaints} complaints while Docker hangs");
        // The kernel is looked after meanwhile.
        let node = &scene.node;
        node.run(&["ip", "link", "set", &device, "down"])?;
        wait_for("a device set up again without Docker", Duration::from_secs(5), || {
            Ok(node.run(&["ip", "-br", "link", "show", &device])?.contains("UP").then_some(()))
        })
    }();
    scene.node.signal_docker(Signal::SIGCONT)?;
    hung
}

/// The host's end of a replica that the load does not need.
fn device(scene: &Scene) -> Result<String> {
    let staging = scene.replica("shop", "staging", "web", 1)?;
    let routes = scene.node.run(&["ip", "-j", "route", "show", staging.address()?])?;
    let routes: serde_json::Value = serde_json::from_str(&routes)?;
    Ok(routes[0]["dev"].as_str().context("no route to shop/staging/web.1")?.to_owned())
}

fn start_without_docker(scene: &Scene) -> Result<()> {
    let node = &scene.node;
    node.stop_skepd()?;
    node.stop_docker(Signal::SIGTERM)?;
    node.start_skepd()?;
    told(scene)?;
    let log = node.skepd_log()?;
    ensure!(log.contains("waiting for it, and looking after what runs meanwhile"), "it does not say that it waits");
    node.start_docker()
}

fn prune(scene: &Scene) -> Result<()> {
    scene.node.docker(&["system", "prune", "--all", "--force"]).map(drop)
}

fn remove_pause(scene: &Scene) -> Result<()> {
    let images = scene.node.docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "skep-pause"])?;
    let image = images.lines().next().context("no pause image")?;
    scene.node.docker(&["rmi", "--force", image])?;
    sandbox(scene, &["rm", "--force"])
}

/// The second replica of `web`: its workload and its sandbox.
fn web(scene: &Scene) -> Result<(String, String)> {
    let web = scene.replica("shop", "production", "web", 2)?;
    let id = |id: &Option<String>| id.clone().context("no container");
    Ok((id(&web.replica().container)?, id(&web.replica().sandbox)?))
}

fn workload(scene: &Scene, command: &[&str]) -> Result<()> {
    scene.node.docker(&[command, &[&web(scene)?.0]].concat()).map(drop)
}

fn sandbox(scene: &Scene, command: &[&str]) -> Result<()> {
    scene.node.docker(&[command, &[&web(scene)?.1]].concat()).map(drop)
}

/// Docker starts it again after it has ended; by then it may be gone, since a sandbox that ended is made anew.
fn restart_sandbox(scene: &Scene) -> Result<()> {
    let (_, sandbox) = web(scene)?;
    let url = scene.node.docker_url();
    scene.node.output(&["docker", "--host", &url, "restart", &sandbox]).map(drop)
}

fn rename(scene: &Scene, container: &str) -> Result<()> {
    scene.node.docker(&["rename", container, "somebody-else"]).map(drop)
}
