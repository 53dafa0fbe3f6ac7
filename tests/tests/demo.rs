//! The demo's images: pulled from a registry that answers, built when none does, and no trace of either after Ctrl-C.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tests::{
    Node, Valve,
    images::{Image, Registry},
    left_by, paths, wait_for,
};

/// One demo at a time: each has work for a whole computer, within limits.
static ALONE: Mutex<()> = Mutex::new(());

/// `cargo xtask demo --check`, with the node's network as this computer's own.
fn demo(node: &Node, registry: &str) -> Result<Command> {
    let xtask = paths::program("xtask")?;
    let mut demo = Command::new("nsenter");
    demo.args(["--net", "--target", &node.machine().pid().to_string(), "--"]).arg(xtask);
    demo.args(["demo", "--check", "--yes", "--output", "json", "--registry", registry]);
    Ok(demo)
}

/// Makes an image that the demo could not build, and pushes it; gives its digest.
fn push(node: &Node, registry: &Registry, image: Image, name: &str) -> Result<String> {
    node.load(&[image])?;
    let container = node.docker(&["create", image.tag()])?;
    node.docker(&["commit", "--change", "LABEL from=registry", &container, "marked:latest"])?;
    node.push("marked:latest", registry, name)
}

/// A demo that will be interrupted.
struct Started {
    child: Child,
}

impl Started {
    fn new(mut demo: Command) -> Result<Self> {
        Ok(Self { child: demo.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()? })
    }

    /// Reads what it says until a line begins so.
    fn until(&mut self, beginning: &str) -> Result<String> {
        let stderr = self.child.stderr.as_mut().context("piped")?;
        let mut said = String::new();
        for line in BufReader::new(stderr).lines() {
            let line = line?;
            said += &format!("{line}\n");
            if line.starts_with(beginning) {
                return Ok(said);
            }
        }
        bail!("no line begins with {beginning:?}:\n{said}");
    }

    /// What bears its name: processes, files, mounts, cgroups.
    fn traces(&self) -> Result<String> {
        left_by(&format!("-{}-", self.child.id()))
    }

    /// Ctrl-C; then waits until nothing is left.
    fn interrupt(mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGINT)?;
        self.child.wait()?;
        wait_for("nothing left", Duration::from_secs(20), || {
            let left = self.traces()?;
            if left.is_empty() { Ok(Some(())) } else { bail!("{left}") }
        })
    }
}

#[test]
fn the_demo_runs_what_a_registry_gives() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let node = Node::builder().docker_only()?;
    let registry: Registry = format!("{}/mirror", node.start_registry()?).parse()?;
    let pushed = [
        ("postgres", "PostgreSQL ", push(&node, &registry, Image::Postgres, "postgres:17-alpine")?),
        ("redis", "Redis ", push(&node, &registry, Image::Redis, "redis:8-alpine")?),
    ];
    let child = demo(&node, &registry.to_string())?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let name = format!("-{}-", child.id());
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("no JSON\n{said}"))?;
    let images = report["images"].as_array().context("no images in the report")?;
    assert_eq!(images.len(), pushed.len());
    for (image, (service, version, digest)) in images.iter().zip(pushed) {
        assert_eq!(image["service"], service);
        assert_eq!((&image["origin"], &image["digest"]), (&"pulled".into(), &digest.into()));
        assert!(image["image"].as_str().is_some_and(|name| name.starts_with(&registry.image(service))), "{image}");
        assert!(image["version"].as_str().is_some_and(|it| it.starts_with(version)), "{image}");
        assert_eq!(image["environments"], 3, "not what runs: {image}");
    }
    // Not the exit status: what others do on this computer meanwhile looks as if it were left behind.
    assert!(said.contains(" ok\n") && !said.contains("DIFFERS"), "{said}");
    assert_eq!(left_by(&name)?, "");
    Ok(())
}

#[test]
fn without_an_answer_the_demo_builds() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let node = Node::builder().docker_only()?;
    let mut demo = Started::new(demo(&node, "127.0.0.1:1")?)?;
    let said = demo.until("… loading ")?;
    assert!(
        said.contains("127.0.0.1:1/postgres:17-alpine: dial tcp 127.0.0.1:1: connect: connection refused"),
        "{said}"
    );
    for built in ["\npostgres   built from postgresql-", "\nredis      built from redis-server "] {
        assert!(said.contains(built), "{said}");
    }
    assert_ne!(demo.traces()?, "", "the test needs something to look for");
    demo.interrupt()
}

#[test]
fn a_demo_that_is_interrupted_while_it_pulls_leaves_nothing_behind() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let node = Node::builder().docker_only()?;
    let registry = node.start_registry()?;
    push(&node, &registry, Image::Busybox, "postgres:17-alpine")?;
    let server = registry.to_string().parse()?;
    // A part of the layer.
    let valve = node.machine().netns()?.enter(|| Valve::new(server, 100_000))?;
    let mut demo = Started::new(demo(&node, &valve.address().to_string())?)?;
    demo.until("… pulling ")?;
    valve.closed(Duration::from_secs(10))?;
    let traces = demo.traces()?;
    assert!(traces.lines().any(|it| it.starts_with("process: ") && it.contains("skopeo")), "{traces}");
    demo.interrupt()?;
    let kept = paths::target().join("images/pulled").join(format!("{}_postgres:17-alpine", valve.address()));
    assert!(!kept.exists(), "{}", kept.display());
    Ok(())
}
