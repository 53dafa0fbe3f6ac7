//! One replica, seen from the test.

use std::process::Output;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{netns::Namespace, node::Node, process::Process};

/// One line of `skepctl ps -o json`, as documented.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of `skepctl ps`")]
pub struct Replica {
    pub project: String,
    pub environment: String,
    pub service: String,
    pub replica: u32,
    pub deployment: u64,
    pub state: String,
    pub node: String,
    pub address: Option<String>,
    pub address6: Option<String>,
    pub vip: Option<String>,
    pub vip6: Option<String>,
    pub container: Option<String>,
    pub sandbox: Option<String>,
}

/// A handle to a running replica of a node.
#[derive(Clone, Debug)]
pub struct Container<'a> {
    node: &'a Node,
    replica: Replica,
}

impl<'a> Container<'a> {
    /// A handle to a replica, or [`Node::replica`], which waits for it.
    #[must_use]
    pub fn new(node: &'a Node, replica: Replica) -> Self {
        Self { node, replica }
    }

    /// What `skepctl ps` says of it.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Its IPv4 address.
    ///
    /// # Errors
    /// It has none.
    pub fn address(&self) -> Result<&str> {
        self.replica.address.as_deref().with_context(|| format!("{} has no address", self.name()))
    }

    /// Its IPv6 address.
    ///
    /// # Errors
    /// It has none.
    pub fn address6(&self) -> Result<&str> {
        self.replica.address6.as_deref().with_context(|| format!("{} has no IPv6 address", self.name()))
    }

    /// Its service's IPv4 VIP.
    ///
    /// # Errors
    /// It has none.
    pub fn vip(&self) -> Result<&str> {
        self.replica.vip.as_deref().with_context(|| format!("{} has no VIP", self.name()))
    }

    /// Its service's IPv6 VIP.
    ///
    /// # Errors
    /// It has none.
    pub fn vip6(&self) -> Result<&str> {
        self.replica.vip6.as_deref().with_context(|| format!("{} has no IPv6 VIP", self.name()))
    }

    /// `shop/production/web.1`.
    #[must_use]
    pub fn name(&self) -> String {
        let Replica { project, environment, service, replica, .. } = &self.replica;
        format!("{project}/{environment}/{service}.{replica}")
    }

    /// Runs a command inside the container; it must succeed.
    ///
    /// # Errors
    /// It fails.
    pub fn exec(&self, arguments: &[&str]) -> Result<String> {
        self.node.docker(&[&["exec", self.id()?], arguments].concat())
    }

    /// Runs a command inside the container, whatever its exit status.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn exec_output(&self, arguments: &[&str]) -> Result<Output> {
        let url = self.node.docker_url();
        self.node.output(&[&["docker", "--host", &url, "exec", self.id()?], arguments].concat())
    }

    /// Starts a long-running command inside the container, with its output in `<log>.log` of the machine.
    ///
    /// Dropping the handle ends `docker exec`, not the command in the container.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, log: &str, arguments: &[&str]) -> Result<Process> {
        let url = self.node.docker_url();
        self.node.machine().spawn(log, &[&["docker", "--host", &url, "exec", self.id()?], arguments].concat())
    }

    /// Runs a tool of this computer in the container's netns, as root; it must succeed.
    ///
    /// # Errors
    /// It fails.
    pub fn net(&self, arguments: &[&str]) -> Result<String> {
        self.node.run(&[&["nsenter", &self.net_argument()?], arguments].concat())
    }

    /// Runs a tool of this computer in the container's netns, whatever its exit status.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn net_output(&self, arguments: &[&str]) -> Result<Output> {
        self.node.output(&[&["nsenter", &self.net_argument()?], arguments].concat())
    }

    /// Starts a tool of this computer in the container's netns; killed when the handle is dropped.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn net_spawn(&self, log: &str, arguments: &[&str]) -> Result<Process> {
        self.node.machine().spawn(log, &[&["nsenter", &self.net_argument()?], arguments].concat())
    }

    /// The container's netns.
    ///
    /// # Errors
    /// The sandbox is gone.
    pub fn netns(&self) -> Result<Namespace> {
        Namespace::open(&self.node.machine().outside(format!("/proc/{}/ns/net", self.sandbox_pid()?)))
    }

    /// The PID of the sandbox, as the node sees it.
    ///
    /// # Errors
    /// The sandbox is gone.
    pub fn sandbox_pid(&self) -> Result<u32> {
        let sandbox = self.replica.sandbox.as_deref().with_context(|| format!("{} has no sandbox", self.name()))?;
        let pid = self.node.docker(&["inspect", "--format", "{{.State.Pid}}", sandbox])?;
        pid.parse().with_context(|| format!("the PID of {}'s sandbox: {pid}", self.name()))
    }

    /// `--net=/proc/<pid>/ns/net`, for nsenter on the node.
    fn net_argument(&self) -> Result<String> {
        Ok(format!("--net=/proc/{}/ns/net", self.sandbox_pid()?))
    }

    /// The id of the workload container.
    /// Docker's id of the workload.
    ///
    /// # Errors
    /// It has none.
    pub fn id(&self) -> Result<&str> {
        self.replica.container.as_deref().with_context(|| format!("{} has no container", self.name()))
    }
}
