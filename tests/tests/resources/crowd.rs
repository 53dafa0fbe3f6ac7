//! Many replicas on a real node: what one costs. `SKEP_LONG=200` makes 200 of them (`SKEP_LONG=1`: 200, too).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tests::Node;
use tests::images::Image;

/// How many there are, unless it is to take longer.
const SHORT: u32 = 16;
const LONG: u32 = 200;
/// How long all of them may take to start, or to stop: longer than any command of the fixtures.
const PATIENCE: Duration = Duration::from_secs(600);
/// skepd must not need more than this, in kB, beside what each replica may cost it.
const RESIDENT: u64 = 100_000;
const RESIDENT_EACH: u64 = 100;

fn count() -> u32 {
    match std::env::var("SKEP_LONG").ok().and_then(|text| text.parse().ok()) {
        None | Some(0) => SHORT,
        Some(1) => LONG,
        Some(count) => count,
    }
}

/// `VmRSS` of skepd, in kB.
fn resident(node: &Node) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.skepd_pid()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn files(node: &Node) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{}/fd", node.skepd_pid()?))?.count())
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let begun = Instant::now();
    Ok((work()?, begun.elapsed()))
}

#[test]
fn a_crowd_of_replicas_costs_little_each() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Busybox])?;
    node.up("shop", "production", "services: {web: {image: 'busybox:latest', command: [sleep, inf]}}")?;
    let (before, files_before) = (resident(&node)?, files(&node)?);
    let count = count();
    let each = count / 4;
    let services: String = (0..4)
        .map(|n| format!("  s{n}: {{image: 'busybox:latest', command: [sleep, inf], deploy: {{replicas: {each}}}}}\n"))
        .collect();
    let file = node.compose_file("crowd", "production", &format!("services:\n{services}"))?;
    let skepctl = |arguments: &[&str]| {
        let mut skepctl = node.machine().spawn("skepctl", &node.skepctl_line(arguments)?)?;
        ensure!(skepctl.wait(PATIENCE)?.success(), "{arguments:?}: {}", skepctl.log()?);
        Ok(())
    };
    let (_, up) = timed(|| skepctl(&["-p", "crowd", "up", "-f", &file]))?;
    let (replicas, ps) = timed(|| node.replicas())?;
    ensure!(replicas.len() == each as usize * 4 + 1, "{replicas:?}");
    let (after, files_after) = (resident(&node)?, files(&node)?);
    node.restart_skepd()?;
    let (_, look) = timed(|| node.replicas())?;
    let adopted = resident(&node)?;
    let (_, down) = timed(|| skepctl(&["-p", "crowd", "down"]))?;
    let per = |total: u64| total as f64 / f64::from(count);
    println!(
        "{count} replicas: up {:.1} s ({:.0} ms each), down {:.1} s, ps {} ms, adopted after a restart in {} ms; \
         skepd {before} → {after} kB ({:.1} kB each), {adopted} kB after a restart, {files_before} → {files_after} files",
        up.as_secs_f64(),
        per(up.as_millis() as u64),
        down.as_secs_f64(),
        ps.as_millis(),
        look.as_millis(),
        per(after.saturating_sub(before)),
    );
    ensure!(after < RESIDENT + RESIDENT_EACH * u64::from(count), "skepd needs {after} kB");
    // Its two attachments, held open so that a pin which somebody removes takes neither away.
    let held = 2 * count as usize;
    ensure!(files_after < files_before + held + 32, "{files_before} files before, {files_after} with {count} replicas");
    ensure!(ps < Duration::from_secs(2), "ps takes {ps:?}");
    Ok(())
}
