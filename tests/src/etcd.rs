//! A real etcd.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{engine, lan::Lan, machine::Machine, process::Process, wait::wait_for};

/// A member of an etcd, as a rule the only one, in a machine of its own. It runs until it is dropped.
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
        Self::with(&[])
    }

    /// The same with further options, `&["--quota-backend-bytes", "1000000"]`.
    ///
    /// # Errors
    /// As [`Self::alone`].
    pub fn with(options: &[&str]) -> Result<Self> {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self::start(Machine::new("etcd")?, "127.0.0.1".to_owned(), options)?.once_it_answers()
    }

    /// One on a LAN.
    ///
    /// # Errors
    /// As [`Self::alone`].
    pub fn on(lan: &Lan) -> Result<Self> {
        let machine = Machine::new("etcd")?;
        let (address, _) = lan.plug(&machine)?;
        Self::start(machine, address, Vec::new())?.once_it_answers()
    }

    /// Three members of one etcd, each in a machine of its own on a LAN.
    ///
    /// # Errors
    /// As [`Self::alone`].
    pub fn three(lan: &Lan) -> Result<Vec<Self>> {
        let mut machines = Vec::new();
        for _ in 0..3 {
            let machine = Machine::new("etcd")?;
            let (address, _) = lan.plug(&machine)?;
            machines.push((machine, address));
        }
        let peer = |address: &str| format!("http://{address}:2380");
        let all: Vec<_> = machines.iter().map(|(it, address)| format!("{}={}", it.name(), peer(address))).collect();
        let mut members = Vec::new();
        for (machine, address) in machines {
            let options = [
                ("--name", machine.name().to_owned()),
                ("--listen-peer-urls", peer(&address)),
                ("--initial-advertise-peer-urls", peer(&address)),
                ("--initial-cluster", all.join(",")),
            ];
            let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
            members.push(Self::start(machine, address, options)?);
        }
        // None does before most of them are there.
        members.into_iter().map(Self::once_it_answers).collect()
    }

    fn start(machine: Machine, address: String, options: Vec<String>) -> Result<Self> {
        let url = format!("http://{address}:2379");
        let mut arguments = vec![engine::etcd()?.display().to_string()];
        arguments.extend(["--data-dir".to_owned(), machine.directory().join("etcd").display().to_string()]);
        arguments.extend(["--listen-client-urls".to_owned(), url.clone(), "--advertise-client-urls".to_owned(), url]);
        arguments.extend(options);
        let process = Mutex::new(machine.spawn("etcd", &arguments)?);
        Ok(Self { process, arguments, address, machine })
    }

    fn once_it_answers(self) -> Result<Self> {
        self.until_it_answers()?;
        Ok(self)
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
        self.start_again_with(&[])
    }

    /// The same with further options, as [`Self::with`] has them.
    ///
    /// # Errors
    /// As [`Self::start_again`].
    pub fn start_again_with(&self, options: &[&str]) -> Result<()> {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).chain(options.iter().copied()).collect();
        *self.process() = self.machine.spawn("etcd", &arguments)?;
        self.until_it_answers()
    }

    /// What people do once there is room again: `etcdctl alarm disarm`.
    ///
    /// # Errors
    /// It was not alarmed, or it does not answer.
    pub fn disarm(&self) -> Result<()> {
        let alarms = self.ask("/v3/maintenance/alarm", &json!({}))?;
        for alarm in alarms["alarms"].as_array().context("no alarm")? {
            let of = json!({"action": "DEACTIVATE", "memberID": alarm["memberID"], "alarm": alarm["alarm"]});
            self.ask("/v3/maintenance/alarm", &of)?;
        }
        Ok(())
    }

    /// Asks its own gateway, by a path such as `/v3/kv/compaction` and JSON.
    ///
    /// # Errors
    /// It refuses, or does not answer.
    pub fn ask(&self, path: &str, question: &Value) -> Result<Value> {
        let (url, body) = (format!("{}{path}", self.url()), question.to_string());
        let answer = self.machine.run(&["curl", "-sS", "--fail-with-body", "--max-time", "20", "-d", &body, &url])?;
        serde_json::from_str(&answer).with_context(|| format!("{path}: {answer}"))
    }

    /// Forgets the history up to a revision.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn compact(&self, revision: u64) -> Result<()> {
        self.ask("/v3/kv/compaction", &serde_json::json!({"revision": revision, "physical": true})).map(drop)
    }

    fn until_it_answers(&self) -> Result<()> {
        // One that is full answers.
        let health = format!("{}/health?exclude=NOSPACE", self.url());
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
