//! Fail closed: each link, map and pin taken away in turn, with skepd stopped so that nothing repairs. What may not
//! pass does not pass then either, in both directions and families. The oracle is who hears a question: packet sockets
//! in the containers and on the LAN, which see every frame before any protocol, and sockets of the host.

#[path = "closed/fault.rs"]
mod fault;
#[path = "closed/scene.rs"]
mod scene;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dataplane::bpf::{DeviceHook, SocketHook};
use tests::images::Image;
use tests::{Node, wait_for};

use fault::{Fault, Kernel};
use scene::Scene;

/// With the fault nothing may pass that may not; without it again, what should pass does.
fn suffer(scene: &Scene, kernel: &Kernel<'_>, fault: &Fault) -> Result<Vec<String>> {
    let begun = Instant::now();
    let undo = kernel.inject(fault)?;
    let leaks = scene.leaks()?;
    kernel.repair(undo)?;
    println!("{:60} {:2} leaks {:5} ms", fault.to_string(), leaks.len(), begun.elapsed().as_millis());
    Ok(leaks.into_iter().map(|leak| format!("{fault}: {leak}")).collect())
}

#[test]
fn whatever_is_missing_nothing_passes_that_must_not() -> Result<()> {
    let node = Node::start()?;
    let scene = Scene::new(&node)?;
    scene.what_may_pass_passes()?;
    node.stop_skepd()?;
    let mut leaks = scene.leaks()?;
    let kernel = Kernel::new(&node)?;
    for fault in kernel.faults()? {
        leaks.extend(suffer(&scene, &kernel, &fault)?);
    }
    scene.what_may_pass_passes()?;

    // Whoever has a link open keeps it attached.
    drop(kernel);
    node.machine().shell("rm -r /sys/fs/bpf/skep/*")?;
    wait_for("no program on any veth", Duration::from_secs(10), || fault::is_bare(&node))?;
    leaks.extend(scene.leaks()?.into_iter().map(|leak| format!("all pins removed: {leak}")));
    leaks.extend(scene.late()?);
    ensure!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));

    node.start_skepd()?;
    node.replicas()?;
    wait_for("all is as before", Duration::from_secs(30), || Ok(scene.what_may_pass_passes().ok()))?;
    the_oracle_hears(&node, &scene)
}

/// How often a fault is injected again because skepd was quicker than whoever was to tell of it.
const ATTEMPTS: usize = 20;

/// Each teller is asked right after the fault, since skepd repairs it; then what it says must be gone again.
#[test]
fn a_missing_program_is_told_with_its_remedy_until_it_is_back() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Busybox])?;
    node.up("shop", "production", "services: {web: {image: 'busybox:latest', command: [sleep, inf]}}")?;
    let kernel = Kernel::new(&node)?;
    let line = node.skepd_command_line()?;
    let tellers: [(&str, Vec<String>); 3] = [
        ("skepctl ps", node.skepctl_line(&["ps"])?),
        ("skepctl check", node.skepctl_line(&["check"])?),
        ("skepd check", [&line[..1], &["check".to_owned()], &line[1..]].concat()),
    ];
    let device = kernel.devices(DeviceHook::FromContainer)?.pop().context("a replica's veth")?;
    for (fault, names) in [
        (device, ["from_container is not on skep", "shop/production/web.1", "start skepd"]),
        (Fault::Socket(SocketHook::Connect4), ["connect4", "not at the cgroup", "start skepd"]),
    ] {
        let mut silent = Vec::new();
        for _ in 0..ATTEMPTS {
            drop(kernel.inject(&fault)?);
            silent = tell(&node, &tellers)?.into_iter().filter(|told| !told.says(&names)).collect();
            wait_for("the program is back", Duration::from_secs(40), || kernel.is_whole())?;
            if silent.is_empty() {
                break;
            }
        }
        ensure!(silent.is_empty(), "{fault}: {names:?} is not said by {silent:#?}");
        let after: Vec<_> = tell(&node, &tellers)?.into_iter().filter(|told| told.says(&["start skepd"])).collect();
        ensure!(after.is_empty(), "{fault} is repaired, and yet: {after:#?}");
    }
    Ok(())
}

/// What somebody said when asked.
#[derive(Debug)]
struct Told {
    teller: &'static str,
    text: String,
    grave: bool,
}

impl Told {
    /// `check` fails of it, too; `ps` shows what there is.
    fn says(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.text.contains(name)) && (self.grave || self.teller == "skepctl ps")
    }
}

/// Asks all of them at once.
fn tell(node: &Node, tellers: &[(&'static str, Vec<String>)]) -> Result<Vec<Told>> {
    std::thread::scope(|scope| {
        let ask = |(teller, line): &(&'static str, Vec<String>)| {
            let (teller, words) = (*teller, line.iter().map(String::as_str).collect::<Vec<_>>().join(" "));
            scope.spawn(move || {
                let output = node.output(&["sh", "-c", &words])?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                Ok(Told { teller, text, grave: !output.status.success() })
            })
        };
        let asked: Vec<_> = tellers.iter().map(ask).collect();
        asked.into_iter().map(|asked| asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// What makes all of that mean something: without program and firewall, what the host sends is heard.
fn the_oracle_hears(node: &Node, scene: &Scene) -> Result<()> {
    node.stop_skepd()?;
    ensure!(scene.leaks()?.is_empty(), "before anything was done");
    let kernel = Kernel::new(node)?;
    node.machine().shell("nft flush ruleset")?;
    let fault = Fault::Everywhere(DeviceHook::ToContainer);
    let undo = kernel.inject(&fault)?;
    let heard = scene.leaks()?;
    ensure!(heard.iter().any(|leak| leak.starts_with("api heard")), "{fault} and no rule, and yet: {heard:?}");
    kernel.repair(undo)
}
