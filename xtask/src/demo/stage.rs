//! The machine of the demo: a dockerd, a skepd, two projects, three environments.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{self, Command};

use anyhow::{Context as _, Result};
use tests::load::Place;
use tests::netns::Namespace;
use tests::{Container, Machine, Node, command};

use super::images::{self, Provided, Source};
use super::screen::Screen;

/// The environments: project, environment.
pub(super) const ENVIRONMENTS: [(&str, &str); 3] =
    [("shop", "production"), ("shop", "staging"), ("blog", "production")];
/// The cluster DNS address: the VIP pool's `.53`.
pub(super) const DNS: &str = "10.224.0.53:53";
/// Their services, with the port each listens on.
pub(super) const SERVICES: [(&str, u16); 3] = [("web", 8080), ("postgres", 5432), ("redis", 6379)];

/// The placeholders are not Compose's own: `skepctl` is to see names.
const COMPOSE: &str = "
services:
  web:
    image: tools:latest
    command: [python3, -m, http.server, '8080', --bind, '::']
    working_dir: /usr/share/doc
    environment: {PGPASSWORD: demo}
    depends_on: [postgres, redis]
    deploy: {replicas: 2}
    x-skep: {type: web}
  postgres:
    image: '{postgres}'
    environment: {POSTGRES_PASSWORD: demo}
    volumes: ['data:/var/lib/postgresql/data']
  redis:
    image: '{redis}'
volumes:
  data:
";

/// Everything that runs; dropping it takes it down.
pub(super) struct Stage {
    pub(super) node: Node,
    /// A machine on the same LAN that runs neither Docker nor Skep.
    pub(super) neighbour: Machine,
    /// What the databases run from.
    pub(super) images: Vec<Provided>,
}

impl Stage {
    /// Brings everything up, with progress.
    pub(super) fn set(source: &Source, screen: &mut Screen) -> Result<Self> {
        screen.status("a dockerd and a skepd of its own, in namespaces of their own …");
        let node = Node::start()?;
        let neighbour = node.lan().neighbour()?;
        let mut images = images::provide(&node, source, screen)?;
        let compose = images.iter().fold(COMPOSE.to_owned(), |text, it| text.replace(&it.placeholder(), &it.image));
        screen.section("environments");
        for (project, environment) in ENVIRONMENTS {
            screen.status(&format!("skepctl up -f compose.yaml -p {project} -e {environment} …"));
            node.up(project, environment, &compose)?;
            let replicas = node.replicas()?;
            let mine = replicas.iter().filter(|it| it.project == project && it.environment == environment);
            let names: Vec<_> = mine.map(|it| format!("{}.{}", it.service, it.replica)).collect();
            screen.line(format!("{project}/{environment}: {}", names.join("  ")));
        }
        images::inspect(&node, &mut images, screen)?;
        let stage = Self { node, neighbour, images };
        stage.docker_network(screen)?;
        Ok(stage)
    }

    /// Two plain Docker containers on a network of Docker's own, to compare with.
    fn docker_network(&self, screen: &mut Screen) -> Result<()> {
        screen.status("a Docker network beside it, to compare with …");
        self.node.docker(&["network", "create", "plain"])?;
        for name in ["web", "client"] {
            let run = ["run", "--detach", "--network", "plain", "--name", name, "tools:latest", "sleep", "infinity"];
            self.node.docker(&run)?;
        }
        Ok(())
    }

    /// A replica of the demo.
    pub(super) fn replica(&self, (project, environment): (&str, &str), service: &str) -> Result<Container<'_>> {
        self.node.replica(project, environment, service, 1)
    }

    /// Where the plain Docker container `client` works.
    pub(super) fn docker_client(&self) -> Result<Place> {
        let pid = self.node.docker(&["inspect", "--format", "{{.State.Pid}}", "client"])?;
        let netns = self.node.machine().outside(format!("/proc/{}/ns/net", pid.trim()));
        Ok(Place::inside(Namespace::open(&netns)?))
    }

    /// A script that runs skepctl inside the demo's machine, for another terminal.
    pub(super) fn skepctl_script(&self) -> Result<PathBuf> {
        let path = self.node.machine().directory().join("skepctl");
        let inside = self.node.machine().command(&self.node.skepctl_line(&[])?);
        fs::write(&path, format!("#!/bin/sh\nexec {} \"$@\"\n", command::line(&inside)))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }
}

/// Every trace that a run could leave on this computer, one per line, by independent readers.
pub(super) fn traces() -> Result<Vec<String>> {
    let mut traces = Vec::new();
    for (what, arguments) in [
        ("link", &["ip", "-br", "link"][..]),
        ("netns", &["ip", "netns", "list"]),
        ("route", &["ip", "route", "show", "table", "all"]),
        ("rule", &["nft", "list", "ruleset"]),
        ("cgroup program", &["bpftool", "-f", "cgroup", "tree"]),
        ("mount", &["findmnt", "--noheadings", "--list", "--output", "TARGET"]),
        ("process", &["pgrep", "--list-full", "skepd|dockerd|containerd"]),
    ] {
        let output = Command::new(arguments[0]).args(&arguments[1..]).output();
        let output = output.with_context(|| format!("`{}`: run `cargo xtask setup`", arguments.join(" ")))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        traces.extend(text.lines().map(|line| format!("{what}: {}", line.trim())));
    }
    // Everything that a machine starts or writes has this in its command line or path; others may run beside it.
    let own = format!("-{}-", process::id());
    traces.retain(|trace| !trace.starts_with("process: ") || trace.contains(&own));
    for directory in ["/sys/fs/bpf", "/var/tmp"] {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path().display().to_string());
        traces.extend(paths.filter(|path| path.contains(&own)).map(|path| format!("file: {path}")));
    }
    Ok(traces)
}
