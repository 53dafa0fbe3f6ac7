//! Docker's bad nights on nodes of their own: without `live-restore`, with another engine, with other options.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::engine::newer_dockerd;
use tests::faults::{Cost, Fault, Scene, all};
use tests::images::Image;
use tests::load::{Client, Connects, Place, Running, run};
use tests::{Container, Node, wait_for};

/// Until everything is back when Docker took it all down.
const BACK: Duration = Duration::from_secs(30);
/// Port of `serve` that answers once a connection.
const PER_REQUEST: u16 = 7002;

const WEB: &str = "services: {web: {image: 'musl:latest', command: [serve, web], deploy: {replicas: 2}}}";

fn restart(scene: &Scene, signal: Signal) -> Result<()> {
    scene.node.stop_docker(signal)?;
    scene.node.start_docker()
}

const fn restarted(name: &'static str, inject: fn(&Scene) -> Result<()>) -> Fault {
    Fault { name, inject, within: BACK, cost: Cost::Interruption, visitor: None }
}

const SIGTERM: Fault =
    restarted("dockerd: SIGTERM and a start, without live-restore", |scene| restart(scene, Signal::SIGTERM));
const SIGKILL: Fault =
    restarted("dockerd: SIGKILL and a start, without live-restore", |scene| restart(scene, Signal::SIGKILL));

#[test]
fn without_live_restore_a_restart_and_an_upgrade_bring_everything_back_as_it_was() -> Result<()> {
    let mut scene = Scene::start(Node::builder().live_restore(false))?;
    let faults: &[Fault] = if std::env::var_os("SKEP_LONG").is_some() { &[SIGTERM, SIGKILL] } else { &[SIGTERM] };
    all(&mut scene, faults)?;
    after_an_upgrade(&mut scene, "dockerd: a newer one in its place, without live-restore", Cost::Interruption)?;
    scene.end()
}

fn upgrade(scene: &Scene) -> Result<()> {
    scene.node.replace_dockerd(newer_dockerd()?);
    restart(scene, Signal::SIGTERM)
}

/// All is as before, and skepd works with the new one.
fn after_an_upgrade(scene: &mut Scene, name: &'static str, cost: Cost) -> Result<()> {
    newer_dockerd()?;
    let version = |scene: &Scene| scene.node.docker(&["version", "--format", "{{.Server.Version}}"]);
    let (before, identities) = (version(scene)?, replicas(&scene.node)?);
    all(scene, &[Fault { name, inject: upgrade, within: BACK, cost, visitor: None }])?;
    let after = version(scene)?;
    ensure!(before != after, "the engine is {after}, as before");
    let now = replicas(&scene.node)?;
    ensure!(identities == now, "{before} to {after}: {identities:#?} became {now:#?}");
    // Newer engines have DOCKER-USER for IPv6, too.
    wait_for("skepd's rules in the chain that the engine has for people", BACK, || {
        let has_chain = scene.node.output(&["ip6tables", "-S", "DOCKER-USER"])?.status.success();
        let elsewhere = scene.node.run(&["ip6tables", "-S", "FORWARD"])?.contains("skep:");
        Ok((!has_chain || !elsewhere).then_some(()))
    })?;
    // Both ways to make something: anew in place, and in another environment.
    let web = scene.replica("shop", "production", "web", 2)?;
    let sandbox = web.replica().sandbox.clone().context("no sandbox")?;
    scene.node.docker(&["rm", "--force", &sandbox])?;
    wait_for("a new sandbox by the new engine", BACK, || {
        let found = scene
            .node
            .replicas()?
            .into_iter()
            .find(|it| it.project == "shop" && it.service == "web" && it.replica == 2);
        Ok(found.filter(|it| it.state == "running" && it.sandbox.as_ref() != Some(&sandbox)).map(drop))
    })?;
    scene.node.up("wiki", "production", WEB)?;
    Ok(())
}

/// Who has which addresses.
fn replicas(node: &Node) -> Result<Vec<String>> {
    let line = |it: tests::Replica| {
        format!(
            "{}/{}/{}.{}: {} {:?} {:?}",
            it.project, it.environment, it.service, it.replica, it.state, it.address, it.vip
        )
    };
    Ok(node.replicas()?.into_iter().map(line).collect())
}

#[test]
fn an_upgrade_of_the_engine_with_live_restore_is_not_noticed() -> Result<()> {
    let mut scene = Scene::start(Node::builder())?;
    after_an_upgrade(&mut scene, "dockerd: a newer one in its place, with live-restore", Cost::Nothing)?;
    scene.end()
}

/// Requests to the VIP of `web`, a connection each, from a replica of `api`.
fn ask(node: &Node) -> Result<Vec<Running>> {
    let api = node.replica("shop", "production", "api", 1)?;
    let web = node.replica("shop", "production", "web", 1)?;
    let to: SocketAddr = (web.vip()?.parse::<std::net::IpAddr>()?, PER_REQUEST).into();
    let place = Place::inside(api.netns()?);
    Ok((0..2).map(|_| run(place.clone(), move || Connects::new(to).map(Paced))).collect())
}

/// As a person's clients are: other things to do between two requests.
struct Paced(Connects);

impl Client for Paced {
    fn exchange(&mut self) -> std::io::Result<u64> {
        std::thread::sleep(Duration::from_millis(1));
        self.0.exchange()
    }
}

const TWO: &str = "
services:
  web: {image: 'musl:latest', command: [serve, web], deploy: {replicas: 2}}
  api: {image: 'musl:latest', command: [serve, api]}
";

/// A server that ends at once when told to is gone before anybody can know; skepd hears it from the kernel, and nobody
/// is sent to it from then on.
#[test]
fn when_one_of_two_replicas_is_stopped_only_what_it_was_doing_is_lost() -> Result<()> {
    let rounds = if std::env::var_os("SKEP_LONG").is_some() { 20 } else { 3 };
    let node = Node::builder().docker_only()?;
    node.load(&[Image::Musl])?;
    node.start_skepd()?;
    node.up("shop", "production", TWO)?;
    let load = ask(&node)?;
    let asked = |load: &[Running]| load.iter().map(Running::exchanges).sum::<u64>();
    let failed = |load: &[Running]| load.iter().map(Running::failures).sum::<u64>();
    let clients = u64::try_from(load.len())?;
    for round in 0..rounds {
        let web = node.replica("shop", "production", "web", 2)?;
        let workload = web.replica().container.clone().context("no container")?;
        let how = if round % 2 == 0 { "stop" } else { "kill" };
        node.docker(&[how, &workload])?;
        // Docker has cleaned up by now; each client may have had one request under way.
        let lost = failed(&load);
        wait_for("the stopped workload running again", Duration::from_secs(10), || {
            let state = node.docker(&["inspect", "--format", "{{.State.Running}}", &workload])?;
            Ok((state.trim() == "true").then_some(()))
        })?;
        let before = asked(&load);
        wait_for("more answers", Duration::from_secs(10), || Ok((asked(&load) > before + 200).then_some(())))?;
        let late = failed(&load) - lost;
        ensure!(late <= clients, "{late} requests failed after `docker {how}` had ended");
    }
    for client in load {
        let tally = client.stop()?;
        println!("{} requests, {} failed: {:?}", tally.exchanges, tally.failures, tally.first_failure);
    }
    Ok(())
}

#[test]
fn what_a_prune_took_is_named_and_made_again_when_its_image_is_back() -> Result<()> {
    const JOB: &str = "
services:
  web: {image: 'musl:latest', command: [serve, web]}
  job: {image: 'busybox:latest', command: ['false'], restart: 'no'}
";
    let node = Node::builder().docker_only()?;
    node.load(&[Image::Musl, Image::Busybox])?;
    node.start_skepd()?;
    let file = node.compose_file("shop", "production", JOB)?;
    node.skepctl(&["-p", "shop", "-e", "production", "up", "--no-wait", "-f", &file])?;
    let job = |wanted: &'static str, message: &'static str| {
        wait_for(&format!("the job {wanted}: {message}"), Duration::from_secs(30), || {
            let rows = node.skepctl_json(&["ps"])?;
            let rows = rows.as_array().context("no rows")?;
            let job = rows.iter().find(|row| row["service"] == "job");
            Ok(job
                .filter(|job| {
                    job["state"] == wanted && job["message"].as_str().is_some_and(|text| text.contains(message))
                })
                .cloned())
        })
    };
    job("failed", "ended with status 1")?;
    let web = node.replica("shop", "production", "web", 1)?;
    node.docker(&["system", "prune", "--all", "--force"])?;
    let images = node.docker(&["image", "ls", "--format", "{{.Repository}}"])?;
    ensure!(images.contains("musl") && images.contains("skep-pause"), "images of what runs are gone: {images}");
    ensure!(!images.contains("busybox"), "the prune left busybox: {images}");
    let told = job("failed", "busybox:latest cannot be had")?;
    ensure!(told["message"].as_str().is_some_and(|text| text.contains("docker load")), "no remedy in {told}");
    // No attempt of its own is waited for: the image's arrival is noticed.
    node.load(&[Image::Busybox])?;
    job("failed", "ended with status 1")?;
    let now = node.replica("shop", "production", "web", 1)?;
    ensure!(web.replica().container == now.replica().container, "web was made anew");
    Ok(())
}

/// `HostConfig.LogConfig` of the workload of `web` in a new environment.
fn log_config(node: &Node, environment: &str) -> Result<Value> {
    node.up("shop", environment, WEB)?;
    let inspect = |container: &Container<'_>| -> Result<Value> {
        let id = container.replica().container.clone().context("no container")?;
        Ok(serde_json::from_str(&node.docker(&["inspect", "--format", "{{json .HostConfig.LogConfig}}", &id])?)?)
    };
    // The first is made by an engine that is not known yet, the second by one that is.
    let first = inspect(&node.replica("shop", environment, "web", 1)?)?;
    let second = inspect(&node.replica("shop", environment, "web", 2)?)?;
    ensure!(first == second, "{first} and {second}");
    Ok(first)
}

#[test]
fn output_is_rotated_unless_the_engine_was_told_otherwise() -> Result<()> {
    let node = Node::builder().docker_only()?;
    node.load(&[Image::Musl])?;
    node.start_skepd()?;
    let usual = log_config(&node, "usual")?;
    ensure!(usual == json!({ "Type": "json-file", "Config": { "max-size": "10m", "max-file": "3" } }), "{usual}");
    let options = json!({ "max-size": "50m" });
    let told = |options: Value, environment| {
        node.set_docker_options(options.as_object().cloned().unwrap_or_default());
        node.stop_docker(Signal::SIGTERM)?;
        node.start_docker()?;
        log_config(&node, environment)
    };
    let limited = told(json!({ "log-opts": options }), "limited")?;
    ensure!(limited == json!({ "Type": "json-file", "Config": options }), "{limited}");
    let local = told(json!({ "log-driver": "local" }), "local")?;
    ensure!(local["Type"] == "local", "{local}");
    // What was made to find out is gone.
    let containers = node.docker(&["ps", "--all", "--quiet"])?;
    ensure!(containers.lines().count() == 12, "six replicas have {containers}");
    Ok(())
}
