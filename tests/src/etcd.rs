//! A real etcd.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;

use crate::{engine, lan::Lan, machine::Machine, process::Process, wait::wait_for};

/// An etcd of one member, in a machine of its own. It runs until it is dropped.
#[derive(Debug)]
pub struct Etcd {
    process: Mutex<Process>,
    arguments: Vec<String>,
    address: String,
    machine: Machine,
}

impl Etcd {
    /// One that answers on its own machine alone.
    ///
    /// # Errors
    /// No root, or no etcd to be had.
    pub fn alone() -> Result<Self> {
        Self::start(Machine::new("etcd")?, "127.0.0.1".to_owned())
    }

    /// One on a LAN.
    ///
    /// # Errors
    /// As [`Self::alone`].
    pub fn on(lan: &Lan) -> Result<Self> {
        let machine = Machine::new("etcd")?;
        let (address, _) = lan.plug(&machine)?;
        Self::start(machine, address)
    }

    fn start(machine: Machine, address: String) -> Result<Self> {
        let url = format!("http://{address}:2379");
        let mut arguments = vec![engine::etcd()?.display().to_string()];
        arguments.extend(["--data-dir".to_owned(), machine.directory().join("etcd").display().to_string()]);
        arguments.extend(["--listen-client-urls".to_owned(), url.clone(), "--advertise-client-urls".to_owned(), url]);
        let process = Mutex::new(machine.spawn("etcd", &arguments)?);
        let etcd = Self { process, arguments, address, machine };
        etcd.until_it_answers()?;
        Ok(etcd)
    }

    /// Where it answers.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}:2379", self.address)
    }

    /// Its machine.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// A directory for what belongs to it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.machine.directory()
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It has ended already.
    pub fn kill(&self) -> Result<()> {
        self.process().kill()
    }

    /// A new process on the same data, once it answers.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_again(&self) -> Result<()> {
        *self.process() = self.machine.spawn("etcd", &self.arguments)?;
        self.until_it_answers()
    }

    fn until_it_answers(&self) -> Result<()> {
        let health = format!("{}/health", self.url());
        wait_for("an answer of etcd", Duration::from_secs(20), || {
            self.process().must_be_running()?;
            let asked = self.machine.output(&["curl", "-sf", "--max-time", "2", &health])?;
            Ok(asked.status.success().then_some(()))
        })
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
