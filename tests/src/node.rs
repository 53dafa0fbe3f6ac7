//! A machine that runs Docker and Skep.

mod docker;
mod registry;
mod skepd;

use std::{
    fs,
    path::PathBuf,
    process::Output,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

use crate::{
    container::{Container, Replica},
    images::{Image, Limits, Pulled, Registry},
    lan::Lan,
    machine::Machine,
    process::{Process, tail},
    wait::wait_for,
};

/// The sockets, directories and names of a node, and how its daemons are started.
#[derive(Debug)]
pub struct NodeBuilder {
    lan: Option<Arc<Lan>>,
    live_restore: bool,
    skepd_arguments: Vec<String>,
    small_state: bool,
    log: String,
}

impl Default for NodeBuilder {
    fn default() -> Self {
        Self { lan: None, live_restore: true, skepd_arguments: Vec::new(), small_state: false, log: "debug".to_owned() }
    }
}

impl NodeBuilder {
    /// Plugs the node into this LAN; without, it gets one of its own.
    #[must_use]
    pub fn lan(mut self, lan: &Arc<Lan>) -> Self {
        self.lan = Some(Arc::clone(lan));
        self
    }

    /// Whether containers outlive dockerd; yes, unless said otherwise.
    #[must_use]
    pub fn live_restore(mut self, yes: bool) -> Self {
        self.live_restore = yes;
        self
    }

    /// Further options of skepd, `&["--vip-pool4", "10.99.0.0/16"]`.
    #[must_use]
    pub fn skepd_arguments(mut self, arguments: &[&str]) -> Self {
        self.skepd_arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// What skepd logs; `debug`, unless said otherwise.
    #[must_use]
    pub fn log(mut self, filter: &str) -> Self {
        filter.clone_into(&mut self.log);
        self
    }

    /// Puts the state directory on a file system of its own, of 16 MiB and 64 files, that can be filled and broken.
    #[must_use]
    pub fn small_state(mut self) -> Self {
        self.small_state = true;
        self
    }

    /// Makes the node with dockerd ready and skepd not yet started.
    ///
    /// # Errors
    /// No root, no Docker.
    pub fn docker_only(self) -> Result<Node> {
        let lan = match self.lan {
            Some(lan) => lan,
            None => Arc::new(Lan::new()?),
        };
        let machine = Machine::new("node")?;
        let (address4, address6) = lan.plug(&machine)?;
        machine.shell("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")?;
        let node = Node {
            skepd: Mutex::new(None),
            dockerd: Mutex::new(None),
            address4,
            address6,
            live_restore: self.live_restore,
            dockerd_path: Mutex::new(PathBuf::from("dockerd")),
            dockerd_options: Mutex::default(),
            skepd_arguments: self.skepd_arguments,
            log: self.log,
            machine,
            lan,
        };
        if self.small_state {
            node.mount_small_state()?;
        }
        node.start_docker()?;
        Ok(node)
    }

    /// Makes the node with dockerd and skepd ready.
    ///
    /// # Errors
    /// No root, no Docker, skepd not built or not willing.
    pub fn start(self) -> Result<Node> {
        let node = self.docker_only()?;
        node.start_skepd()?;
        Ok(node)
    }
}

/// A machine on a LAN with a private `dockerd` and a private `skepd`.
///
/// `skepd` and `dockerd` have PIDs, sockets and logs of their own; when the test panics, the ends of
/// both logs are printed. Every method takes `&self`, so that threads may use it while skepd is killed. All is gone when it is dropped: see [`Machine`].
#[derive(Debug)]
pub struct Node {
    // Dropped in this order: the daemons first, the LAN last. None: not running, by the test's will.
    skepd: Mutex<Option<Process>>,
    dockerd: Mutex<Option<Process>>,
    address4: String,
    address6: String,
    live_restore: bool,
    dockerd_path: Mutex<PathBuf>,
    dockerd_options: Mutex<Map<String, Value>>,
    skepd_arguments: Vec<String>,
    log: String,
    machine: Machine,
    lan: Arc<Lan>,
}

impl Node {
    /// A node as most tests want it, on a LAN of its own.
    ///
    /// # Errors
    /// See [`NodeBuilder::start`].
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// A node with something special about it.
    #[must_use]
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// The machine: commands in its netns, its directory, its PID 1.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The LAN it is plugged into.
    #[must_use]
    pub fn lan(&self) -> &Arc<Lan> {
        &self.lan
    }

    /// A machine on its LAN that has been told the way to the pools: through this node.
    ///
    /// # Errors
    /// No root.
    pub fn neighbour(&self) -> Result<Machine> {
        let neighbour = self.lan.neighbour()?;
        let Self { address4, address6, .. } = self;
        neighbour.shell(&format!(
            "for pool in 10.208.0.0/12 10.224.0.0/16; do ip route add $pool via {address4}; done
             for pool in fd53:6b65:7000::/48 fd53:6b65:7001::/64; do ip -6 route add $pool via {address6}; done"
        ))?;
        Ok(neighbour)
    }

    /// The IPv4 address of its uplink `uplink0`.
    #[must_use]
    pub fn address4(&self) -> &str {
        &self.address4
    }

    /// The IPv6 address of its uplink `uplink0`.
    #[must_use]
    pub fn address6(&self) -> &str {
        &self.address6
    }

    /// Runs a command on the node, outside all containers; it must succeed.
    ///
    /// # Errors
    /// It fails.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        self.machine.run(arguments)
    }

    /// Runs a command on the node, whatever its exit status.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn output(&self, arguments: &[&str]) -> Result<Output> {
        self.machine.output(arguments)
    }

    /// Makes images known to the node's Docker; they are built once and cached under `target/`.
    ///
    /// # Errors
    /// An image cannot be built (no network, a package is missing) or not be loaded.
    pub fn load(&self, images: &[Image]) -> Result<()> {
        crate::images::load(&self.machine, &self.docker_url(), images)
    }

    /// Pulls an image (`postgres:17-alpine`) through the caller's network and makes it known to the node's Docker;
    /// it is cached under `target/`. `progress` gets the bytes so far.
    ///
    /// # Errors
    /// The registry does not answer, does not have it, or falls silent.
    pub fn pull(
        &self,
        registry: &Registry,
        image: &str,
        limits: Limits,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Pulled> {
        crate::images::pull(&self.machine, &self.docker_url(), (registry, image), limits, progress)
    }

    /// `skepctl up --wait` with a compose file given as text.
    ///
    /// # Errors
    /// What skepctl says.
    pub fn up(&self, project: &str, environment: &str, compose: &str) -> Result<String> {
        let file = self.compose_file(project, environment, compose)?;
        self.skepctl(&["-p", project, "-e", environment, "up", "--wait", "-f", &file])
    }

    /// Writes a compose file to the node's directory and gives its path.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn compose_file(&self, project: &str, environment: &str, compose: &str) -> Result<String> {
        let directory = self.machine.directory().join(format!("{project}-{environment}"));
        fs::create_dir_all(&directory)?;
        let file = directory.join("compose.yaml");
        fs::write(&file, compose).with_context(|| file.display().to_string())?;
        Ok(file.display().to_string())
    }

    /// `skepctl down`, and waits until it is done.
    ///
    /// # Errors
    /// What skepctl says.
    pub fn down(&self, project: &str, environment: &str) -> Result<String> {
        self.skepctl(&["-p", project, "-e", environment, "down", "--wait"])
    }

    /// All replicas of all environments, from `skepctl ps -o json`.
    ///
    /// # Errors
    /// skepctl fails, or its output is not what the documentation says.
    pub fn replicas(&self) -> Result<Vec<Replica>> {
        serde_json::from_value(self.skepctl_json(&["ps"])?).context("`skepctl ps -o json` is not as documented")
    }

    /// A running replica, waited for.
    ///
    /// # Errors
    /// It is not running after 30 s.
    pub fn replica(&self, project: &str, environment: &str, service: &str, replica: u32) -> Result<Container<'_>> {
        let what = format!("replica {service}.{replica} of {project}/{environment} running");
        let found = wait_for(&what, Duration::from_secs(30), || {
            // Of a version: a command's own container is of none.
            let same = |it: &Replica| {
                (it.project.as_str(), it.environment.as_str(), it.service.as_str(), it.replica)
                    == (project, environment, service, replica)
                    && it.deployment > 0
            };
            Ok(self.replicas()?.into_iter().find(|it| same(it) && it.state == "running"))
        })?;
        Ok(Container::new(self, found))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for log in ["dockerd", "skepd"] {
            let path = self.machine.directory().join(format!("{log}.log"));
            if let Ok(text) = fs::read_to_string(&path) {
                eprintln!("---- the end of {log}'s log on {} ----\n{}", self.machine.name(), tail(&text, 60));
            }
        }
    }
}

/// What is behind a lock; a thread that panicked while it held the lock changes nothing.
fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
