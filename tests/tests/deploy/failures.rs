//! What goes wrong with a new version: the one before goes on as if nothing had happened, and people are told why.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::images::{Image, Registry};
use tests::{Node, wait_for};

use crate::requests::Requests;
use crate::stack::{PATIENCE, Said, Stack, deployment_of, web, with};

/// A way to go wrong.
struct Failure {
    name: &'static str,
    /// What the new version is like.
    changes: Value,
    /// What people are told, in any order.
    told: &'static [&'static str],
}

fn failures(registry: &Registry) -> Vec<Failure> {
    let health = json!({ "path": "/health", "interval": "200ms", "retries": 2 });
    let monitor = |time: &str| json!({ "update_config": { "monitor": time } });
    vec![
        Failure {
            name: "image missing",
            changes: json!({ "image": registry.image("none:1") }),
            told: &["none:1", "not found"],
        },
        Failure {
            name: "registry down",
            changes: json!({ "image": "127.0.0.1:1/web:1" }),
            told: &["127.0.0.1:1/web:1", "connection refused"],
        },
        Failure {
            name: "exits at once",
            changes: json!({
                "command": ["sh", "-c", "echo cannot open $$THE_SECRET >&2; exit 7"],
                "environment": { "THE_SECRET": "kept-to-itself" },
            }),
            told: &["ended with status 7; its last output: cannot open ***"],
        },
        Failure {
            name: "exits at once, and says that it is well",
            changes: json!({ "command": ["true"] }),
            told: &["ended with status 0"],
        },
        Failure {
            name: "exits at once, again and again",
            changes: json!({ "command": ["false"], "restart": "always" }),
            told: &["ended with status 1"],
        },
        Failure {
            name: "is no program",
            changes: json!({ "command": ["no-such-program"] }),
            told: &["no-such-program", "not found"],
        },
        Failure {
            name: "exits after 5 s",
            changes: json!({ "command": ["web", "exit=5"], "restart": "always", "deploy": monitor("20s") }),
            told: &["ended with status 3"],
        },
        Failure {
            name: "never healthy, by its healthcheck",
            changes: json!({ "healthcheck": { "test": ["CMD", "false"], "interval": "300ms", "retries": 2 } }),
            told: &["health check fails"],
        },
        Failure {
            name: "never healthy, by the node's probe",
            changes: json!({
                "command": ["web", "sick=0"], "x-skep": { "health": health.clone(), "start_timeout": "5s" },
            }),
            told: &["not well within 5 s", "GET /health: 503"],
        },
        Failure {
            name: "flaps",
            changes: json!({
                "command": ["web", "flaps=3"], "x-skep": { "health": health }, "deploy": monitor("20s"),
            }),
            told: &["GET /health: 503"],
        },
        Failure {
            name: "out of memory",
            changes: json!({ "command": ["web", "memory"], "mem_limit": "8m", "deploy": monitor("20s") }),
            told: &["out of memory: it may have 8 MiB"],
        },
        Failure {
            name: "release task fails",
            changes: json!({ "x-skep": { "release": "false" } }),
            told: &["its release task failed", "ended with status 1"],
        },
        Failure {
            name: "release task is no program",
            changes: json!({ "x-skep": { "release": "no-such-program" } }),
            told: &["its release task failed", "no-such-program", "not found"],
        },
        Failure {
            name: "port not listening",
            changes: json!({ "command": ["web", "deaf"], "x-skep": { "start_timeout": "3s" } }),
            told: &["not well within 3 s", "connection refused on port 8080"],
        },
    ]
}

/// The failures, or some by parts of their names: `SKEP_FAILURES=image,flaps`.
fn chosen(registry: &Registry) -> Vec<Failure> {
    let mut all = failures(registry);
    if let Ok(wanted) = std::env::var("SKEP_FAILURES") {
        all.retain(|failure| wanted.split(',').any(|part| failure.name.contains(part)));
    }
    all
}

/// A service under load, and how far its versions are.
struct Bench {
    stack: Stack,
    requests: Requests,
    /// The last one asked for.
    version: u32,
}

impl Bench {
    fn start(node: Node) -> Result<Self> {
        let stack = Stack::of(node, &web(1))?;
        let requests = Requests::all(&stack, false);
        requests.unharmed()?;
        Ok(Self { stack, requests, version: 1 })
    }

    /// Asks for a version like that: it must fail, and nobody notices.
    fn fails(&mut self, failure: &Failure) -> Result<()> {
        self.suffer(failure).with_context(|| format!("“{}”", failure.name))
    }

    fn suffer(&mut self, failure: &Failure) -> Result<()> {
        let (stack, serving) = (&self.stack, self.version);
        let before = stack.picture()?;
        self.version += 1;
        let next = with(web(self.version), failure.changes.clone());
        let said = stack.try_up(&next)?;
        println!("{}: {}", failure.name, said.stderr.trim_end());
        refused(&said, failure.told)?;
        let rows = stack.deployments()?;
        let [old, new] = &rows[..] else { anyhow::bail!("{rows:#?}") };
        ensure!((old.deployment, old.state.as_str(), old.serves) == (serving, "ready", true), "{old:?}");
        ensure!((new.deployment, new.state.as_str(), new.serves) == (self.version, "failed", false), "{new:?}");
        let reason = new.reason.as_deref().unwrap_or_default();
        ensure!(failure.told.iter().all(|part| reason.contains(part)), "the reason is {reason:?}");
        stack.until_as("nothing of the new version", &before)?;
        self.requests.unharmed()
    }

    /// The next good one comes to serve.
    fn goes_on(&mut self) -> Result<()> {
        self.version += 1;
        self.stack.up(&web(self.version))?;
        self.requests.at_least(self.version);
        self.stack.serves_alone(self.version)?;
        self.requests.unharmed()
    }
}

/// It ended with an error that says this on standard error.
fn refused(said: &Said, told: &[&str]) -> Result<()> {
    ensure!(!said.success, "it succeeded: {said:#?}");
    ensure!(told.iter().all(|part| said.stderr.contains(part)), "{told:?} in {:?}", said.stderr);
    Ok(())
}

#[test]
fn a_version_that_is_ill_leaves_the_one_before_serving() -> Result<()> {
    let node = Node::start()?;
    let registry = node.start_registry()?;
    node.load(&[Image::Musl])?;
    let mut bench = Bench::start(node)?;
    for failure in chosen(&registry) {
        bench.fails(&failure)?;
        bench.goes_on()?;
    }
    bench.requests.end_unharmed()
}

#[test]
fn a_disk_too_full_for_an_image_leaves_the_version_before_serving() -> Result<()> {
    let node = Node::builder().docker_only()?;
    small_docker(&node)?;
    let registry = node.start_registry()?;
    node.load(&[Image::Musl])?;
    // Layers of its own, which compression makes no smaller.
    let container =
        node.docker(&["run", "--detach", Image::Musl.tag(), "dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=24"])?;
    node.docker(&["wait", &container])?;
    node.docker(&["commit", "--change", "CMD [\"web\"]", &container, "big:latest"])?;
    node.push("big:latest", &registry, "big:1")?;
    node.docker(&["rm", &container])?;
    node.docker(&["rmi", "big:latest"])?;
    node.start_skepd()?;
    let mut bench = Bench::start(node)?;
    let ballast = bench.stack.node.machine().directory().join("small/ballast").display().to_string();
    let image = registry.image("big:1");
    bench.stack.node.machine().shell(&format!(
        "free=$(df --output=avail -k $(dirname {ballast}) | tail -1); fallocate -l $((free - 12288))K {ballast}"
    ))?;
    let failure = Failure {
        name: "disk full on pull",
        changes: json!({ "image": image }),
        told: &["big:1", "no space left on device"],
    };
    bench.fails(&failure)?;
    bench.stack.node.run(&["rm", &ballast])?;
    // Now there is room: the same is asked for again.
    bench.version += 1;
    bench.stack.up(&with(web(bench.version), failure.changes))?;
    bench.requests.at_least(bench.version);
    bench.stack.serves_alone(bench.version)?;
    bench.requests.unharmed()?;
    bench.requests.end_unharmed()
}

/// Puts what Docker keeps on a file system of 512 MiB.
fn small_docker(node: &Node) -> Result<()> {
    let small = node.machine().directory().join("small").display().to_string();
    node.stop_docker(nix::sys::signal::Signal::SIGTERM)?;
    node.machine().shell(&format!(
        "truncate -s 512M {small}.img && mkfs.ext4 -q -m 0 {small}.img && mkdir {small} && mount -o loop {small}.img {small}"
    ))?;
    let options = json!({ "data-root": format!("{small}/docker") });
    node.set_docker_options(options.as_object().cloned().unwrap_or_default());
    node.start_docker()
}

#[test]
fn a_version_that_no_address_is_left_for_fails_or_is_refused_beforehand() -> Result<()> {
    /// Of a /24, without the network's own and the broadcast address.
    const ADDRESSES: u32 = 254;
    /// The client and three of `web`.
    const USED: u32 = 4;
    /// For the release task and three of `web`.
    const LEFT: u32 = 4;
    /// What the new version gets away with, once others have taken the rest.
    const FITS: u32 = 1;
    let node = Node::builder().skepd_arguments(&["--container-pool4", "10.208.0.0/24"]).start()?;
    node.load(&[Image::Musl])?;
    let bench = Bench::start(node)?;
    let (stack, requests) = (&bench.stack, &bench.requests);
    use_up(stack, ADDRESSES - USED - LEFT)?;
    let before = stack.picture()?;
    // There is room for it as long as its release task runs.
    let waits = json!({ "x-skep": { "release": ["sh", "-c", "until test -e /go; do sleep 0.1; done"] } });
    let sent = stack.send_up(&with(web(2), waits))?;
    ensure!(sent.success, "{sent:?}");
    let task = wait_for("the release task", PATIENCE, || {
        let running = stack.node.docker(&["ps", "--format", "{{.Names}}"])?;
        let of_two = |name: &&str| deployment_of(name) == Some(2) && !name.ends_with("-sandbox");
        Ok(running.lines().find(of_two).map(str::to_owned))
    })?;
    use_up(stack, LEFT - 1 - FITS)?;
    stack.node.docker(&["exec", &task, "touch", "/go"])?;
    let failed = stack.until(2, "failed", |row| row.state == "failed")?;
    let reason = failed.reason.unwrap_or_default();
    println!("pool empty: {reason}");
    ensure!(!failed.serves && reason.contains("no address is free"), "{reason}");
    stack.until_as("nothing of the new version", &before)?;
    requests.unharmed()?;
    // Who asks while there is none is told at once.
    let said = stack.try_up(&web(3))?;
    println!("pool empty beforehand: {}", said.stderr.trim_end());
    refused(&said, &["no address is free", "--container-pool4"])?;
    let rows = stack.history()?;
    ensure!(rows.len() == 2 && rows[0].state == "ready" && rows[0].serves, "{rows:#?}");
    stack.until_as("nothing of the one that was refused", &before)?;
    stack.up(&with(web(3), json!({ "deploy": { "replicas": FITS } })))?;
    requests.at_least(3);
    stack.serves_alone(3)?;
    requests.unharmed()?;
    bench.requests.end_unharmed()
}

/// Uses so many addresses up: an address rests for ten minutes when its replica is gone, whatever has become of that.
fn use_up(stack: &Stack, count: u32) -> Result<()> {
    const PROJECT: [&str; 4] = ["-p", "many", "-e", "production"];
    let many = json!({ "services": { "many": { "image": "127.0.0.1:1/many:1", "deploy": { "replicas": count } } } });
    let file = stack.node.compose_file("many", "production", &many.to_string())?;
    let assigned = stack.node.replicas()?.len() + count as usize;
    stack.node.skepctl(&[&PROJECT[..], &["up", "--no-wait", "-f", &file]].concat())?;
    wait_for("all of them assigned", PATIENCE, || Ok((stack.node.replicas()?.len() == assigned).then_some(())))?;
    stack.node.skepctl(&[&PROJECT[..], &["down"]].concat())?;
    Ok(())
}
