//! What a node costs that nobody changes: system calls and processor time of skepd, children included.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;
use tests::Node;
use tests::images::Image;

/// That packets come and go is no change.
const COMPOSE: &str = "
services:
  idle: {image: 'busybox:latest', command: [ping, idle], deploy: {replicas: 30}}
";

/// System calls of an idle minute with 30 replicas. One look at everything every few seconds needs a third of it.
const CALLS_MAX: u64 = 10_000;

#[test]
fn an_idle_minute_with_30_replicas_costs_few_system_calls() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Busybox])?;
    node.up("shop", "production", COMPOSE)?;
    let pid = node.skepd_pid()?;
    // What the last change brought with it (the sets of backends before it) takes ten seconds to go.
    std::thread::sleep(Duration::from_secs(15));

    let seconds = 60;
    let (cpu, begun) = (cpu_ticks(pid)?, Instant::now());
    let summary = node.machine().directory().join("strace");
    let traced = Command::new("timeout")
        .args(["--signal=INT", &seconds.to_string(), "strace", "-f", "-c", "-S", "calls", "-o"])
        .arg(&summary)
        .args(["-p", &pid.to_string()])
        .output()
        .context("strace")?;
    let milliseconds = (cpu_ticks(pid)? - cpu) * 10;
    println!("{milliseconds} ms of processor time in {:?}, traced", begun.elapsed());
    let summary = fs::read_to_string(&summary).with_context(|| String::from_utf8_lossy(&traced.stderr).into_owned())?;
    println!("{summary}");
    let total = summary.lines().find(|line| line.ends_with(" total")).context("no total")?;
    let calls: u64 = total.split_whitespace().nth(3).context("calls")?.parse()?;
    println!("{calls} system calls a minute");
    ensure!(calls < CALLS_MAX, "{calls} system calls in an idle minute:\n{summary}");
    Ok(())
}

/// Hundredths of a second of a process and its waited-for children.
fn cpu_ticks(pid: Pid) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("stat")?;
    // utime, stime, cutime, cstime: the 14th to the 17th of proc_pid_stat(5), of which the first two are cut off.
    fields.split(' ').skip(11).take(4).map(|ticks| Ok(ticks.parse::<u64>()?)).sum()
}
