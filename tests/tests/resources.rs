//! When something runs out: a change that does not fit is refused by name before anything of it is done, and what runs
//! goes on. What skepd cannot do without, it asks for when it starts.

#[path = "resources/crowd.rs"]
mod crowd;
#[path = "resources/thousand.rs"]
mod thousand;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::images::Image;
use tests::load::Place;
use tests::netns::Namespace;
use tests::probe::{Outcome, Protocol, Responder, probe};
use tests::{Node, cgroup, wait_for};

const SMALL: &str = "
services:
  web: {image: 'busybox:latest', command: [sleep, inf]}
  api: {image: 'busybox:latest', command: [sleep, inf]}
";

/// A node on which `shop/production` runs.
struct Stage {
    node: Node,
    web: Namespace,
    /// What `web` asks `api`, by its virtual addresses.
    questions: [(Protocol, IpAddr); 2],
    _api: Responder,
}

impl Stage {
    fn new(arguments: &[&str]) -> Result<Self> {
        let node = Node::builder().skepd_arguments(arguments).start()?;
        node.load(&[Image::Busybox])?;
        node.up("shop", "production", SMALL)?;
        let api = node.replica("shop", "production", "api", 1)?;
        let questions = [(Protocol::Tcp, api.vip()?.parse()?), (Protocol::Udp, api.vip6()?.parse()?)];
        let responder = Responder::start(Place::inside(api.netns()?), "api".to_owned())?;
        let web = node.replica("shop", "production", "web", 1)?.netns()?;
        Ok(Self { node, web, questions, _api: responder })
    }

    /// What there is: containers, replicas, and what the maps hold.
    fn picture(&self) -> Result<String> {
        let containers = self.node.docker(&["ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}}"])?;
        let mut maps = String::new();
        for map in ["DEVICES", "NETNS", "ENDPOINTS", "SERVICES", "NAMES", "PTRS"] {
            write!(maps, "{}", self.node.skepctl(&["map", "dump", map])?)?;
        }
        Ok(format!("{containers}\n{}\n{maps}", self.node.skepctl(&["services"])?))
    }

    fn web_reaches_api(&self) -> Result<()> {
        for outcome in self.web.enter(|| Ok(probe(&self.questions, |_| false)?))? {
            ensure!(matches!(outcome, Outcome::Answered(_)), "web → api: {outcome}");
        }
        Ok(())
    }

    /// `up` says all of this in one line and does nothing.
    fn is_refused(&self, compose: &str, names: &[&str]) -> Result<()> {
        let before = self.picture()?;
        let file = self.node.compose_file("big", "production", compose)?;
        for dry in [&["--dry-run"][..], &[]] {
            let line = [&["-p", "big", "up", "-f", &file], dry].concat();
            says(&self.node.skepctl_output(&line)?, names)?;
        }
        let after = self.picture()?;
        ensure!(before == after, "{names:?} was refused, and yet something was done:\n{before}\n\n{after}");
        self.web_reaches_api()
    }
}

/// A failure with one line on standard error that names all of it.
fn says(output: &Output, names: &[&str]) -> Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "it succeeded, and should have said {names:?}");
    let named = stderr.lines().any(|line| names.iter().all(|name| line.contains(name)));
    ensure!(named, "no line names all of {names:?}:\n{stderr}");
    println!("{}", stderr.trim_end());
    Ok(())
}

/// A compose file of this many services, each with these lines.
fn services(count: u32, lines: &str) -> String {
    let mut compose = String::from("services:\n");
    for number in 0..count {
        compose.push_str(&format!("  s{number}:\n    image: busybox:latest\n    command: [sleep, inf]\n{lines}"));
    }
    compose
}

fn replicas(count: u32) -> String {
    services(1, &format!("    deploy: {{replicas: {count}}}\n"))
}

#[test]
fn a_pool_without_a_free_address_refuses_by_name_and_what_runs_goes_on() -> Result<()> {
    let stage = Stage::new(&["--container-pool4", "10.208.0.0/24", "--vip-pool4", "10.224.0.0/24"])?;
    // 254 addresses, two of which are in use.
    let names = ["big/production/s0.", "2", "10.208.0.0/24", "--container-pool4"];
    stage.is_refused(&replicas(253), &names)?;
    // 253 of 256: not the first, the last and that of DNS.
    let names = ["no VIP is free in 10.224.0.0/24", "--vip-pool4"];
    stage.is_refused(&services(252, ""), &names)?;
    // What does fit is done.
    stage.node.up("big", "production", &replicas(2))?;
    stage.web_reaches_api()
}

#[test]
fn maps_that_would_be_full_refuse_by_name_and_a_map_nearly_full_is_said() -> Result<()> {
    let stage = Stage::new(&["--max-endpoints", "1024", "--max-services", "1024", "--max-replicas", "1100"])?;
    let half = "    deploy: {replicas: 520}\n";
    stage.is_refused(&services(2, half), &["1042 replicas", "1024", "--max-endpoints"])?;
    stage.is_refused(
        &services(3, "    deploy: {replicas: 380}\n"),
        &["1142 replicas on node", "1100", "--max-replicas"],
    )?;
    stage.is_refused(&services(1_023, "    deploy: {replicas: 0}\n"), &["1025 services", "1024", "--max-services"])?;
    let aliases = "    deploy: {replicas: 0}\n    networks: {default: {aliases: [a%, b%, c%, d%]}}\n";
    let many = (0..500).fold(String::from("services:\n"), |mut compose, number| {
        let lines = aliases.replace('%', &number.to_string());
        compose.push_str(&format!("  s{number}:\n    image: busybox:latest\n{lines}"));
        compose
    });
    // Eleven each, and what the stage has: two services with three, two replicas with one. Four a service and one a
    // replica have room.
    stage.is_refused(&many, &["5508 names", "5120", "--max-services"])?;

    // Four fifths full: 1,642 of 2,048 virtual addresses.
    stage.node.up("big", "production", &services(819, "    deploy: {replicas: 0}\n"))?;
    // A service without a replica is nothing that `up` waits for.
    let list = wait_for("the services in the map", Duration::from_secs(30), || {
        let list = stage.node.skepctl_output(&["map", "list"])?;
        let full = |line: &str| line.starts_with("SERVICES") && line.contains("80 %");
        Ok(String::from_utf8_lossy(&list.stdout).lines().any(full).then_some(list))
    })?;
    let warning = String::from_utf8_lossy(&list.stderr);
    ensure!(warning.contains("SERVICES is 80 % full") && warning.contains("--max-services"), "{warning}");
    let line = stage.node.skepd_command_line()?;
    let checks = [
        stage.node.skepctl(&["check"])?,
        stage.node.run(&[&[line[0].as_str(), "check"][..], &words(&line[1..])].concat())?,
    ];
    for check in checks {
        ensure!(check.contains("map SERVICES is 80 % full") && check.contains("--max-services"), "{check}");
    }
    stage.web_reaches_api()
}

#[test]
fn skepd_without_memory_or_files_says_so_and_what_runs_goes_on() -> Result<()> {
    let stage = Stage::new(&[])?;
    let node = &stage.node;
    let before = stage.picture()?;
    node.stop_skepd()?;
    let line = node.skepd_command_line()?;
    let options = line[1..].join(" ");

    let limit = cgroup::Memory::new(96 << 20)?;
    let procs = limit.processes().display().to_string();
    let script = format!("echo 0 >{procs}; exec {} {options} --max-endpoints 1048576", line[0]);
    let names = ["no memory for map", "entries (", " MB", "--max-endpoints", "MemoryMax"];
    says(&node.output(&["sh", "-c", &script])?, &names)?;
    stage.web_reaches_api()?;

    let drop = "setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource";
    let script = format!("ulimit -n 64; exec {drop} {} {options}", line[0]);
    says(&node.output(&["sh", "-c", &script])?, &["64 files", "LimitNOFILE"])?;

    // What may be raised is, and the daemon is a whole one.
    let script = format!("ulimit -S -n 64; exec {} {options}", line[0]);
    let mut skepd = node.machine().spawn("few-files", &["sh", "-c", &script])?;
    wait_for("an answer of skepd", Duration::from_secs(30), || {
        skepd.must_be_running()?;
        Ok(node.skepctl_output(&["ps"])?.status.success().then_some(()))
    })?;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", skepd.pid()))?;
    let files = limits.lines().find(|line| line.starts_with("Max open files")).context("no such limit")?;
    let soft: u64 = files.split_whitespace().nth(3).context("no soft limit")?.parse()?;
    ensure!(soft >= 1_024, "{files}");
    ensure!(stage.picture()? == before, "something else runs now");
    skepd.kill()?;
    node.start_skepd()?;
    stage.web_reaches_api()
}

fn words(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}
