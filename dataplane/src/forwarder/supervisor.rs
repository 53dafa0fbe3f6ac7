//! Keeps one forwarder running, apart from the daemon that started it.
//!
//! A forwarder holds a lock on its pid file, `<run-dir>/dns-<key>.pid`; the key is a digest of its binary and its
//! arguments. So a later daemon sees whether the one it would start runs already. One of another key is replaced
//! without a gap: the new process gets duplicates of the old one's sockets (pidfd_getfd(2)), so that what is queued
//! there is answered by either.

mod instance;
mod process;

use std::ffi::OsString;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use tracing::{error, info, warn};

pub(super) use self::instance::Instance;
use self::process::Process;
use super::sockets::Listeners;
use super::{Config, ForwarderError};
use crate::config::{self, Starter};

/// The program that is running, even after its file was replaced.
const PROGRAM: &str = "/proc/self/exe";
/// How long an old forwarder may finish what it has begun.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest pause before a forwarder that keeps ending is started again.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// One that lived that long is started again at once.
const SETTLED: Duration = Duration::from_secs(60);

/// Starts, adopts, replaces and stops the forwarder of a run directory.
#[derive(Debug, Clone)]
pub struct Supervisor {
    config: Config,
    program: PathBuf,
    arguments: Vec<OsString>,
    starter: Starter,
}

/// What [`Supervisor::ensure`] found or did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// The right one was running.
    Adopted {
        /// Its process.
        pid: u32,
    },
    /// None was running.
    Started {
        /// Its process.
        pid: u32,
    },
    /// Another one was running.
    Replaced {
        /// The new one's process.
        pid: u32,
    },
}

impl Ensured {
    /// The forwarder's process.
    pub fn pid(self) -> u32 {
        match self {
            Self::Adopted { pid } | Self::Started { pid } | Self::Replaced { pid } => pid,
        }
    }
}

/// Why the forwarder could not be started, adopted or stopped.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// A file of the run directory.
    #[error("cannot {operation} {}: {source}: is the run directory writable?", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its sockets.
    #[error(transparent)]
    Sockets(#[from] ForwarderError),
    /// The process could not be started.
    #[error("cannot start the DNS forwarder {}: {source}", program.display())]
    Start {
        /// The binary.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The service manager's, and it does not run.
    #[error("the DNS forwarder does not run: systemctl start skepd-dns")]
    NoUnit,
    /// It ended or hung before it served.
    #[error("the DNS forwarder did not come up: see {}", log.display())]
    NotReady {
        /// Its log.
        log: PathBuf,
    },
    /// A process could not be looked at or signalled.
    #[error("DNS forwarder, process {pid}: cannot {operation}: {source}")]
    Process {
        /// Which.
        pid: u32,
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Supervisor {
    /// For the daemon that runs with `config`.
    pub fn new(config: &config::Config) -> Self {
        let options: [(&str, OsString); 9] = [
            ("--run-dir", config.run_dir.clone().into()),
            ("--bpffs", config.bpffs.clone().into()),
            ("--state-dir", config.state_dir.clone().into()),
            ("--node-name", config.node_name.clone().into()),
            ("--container-pool4", config.container_pool4.to_string().into()),
            ("--vip-pool4", config.vip_pool4.to_string().into()),
            ("--container-pool6", config.container_pool6.to_string().into()),
            ("--vip-pool6", config.vip_pool6.to_string().into()),
            ("--log", config.log.clone().into()),
        ];
        let options = options.into_iter().flat_map(|(flag, value)| [flag.into(), value]);
        let arguments = std::iter::once("dns".into()).chain(options).collect();
        Self { config: config.into(), program: PROGRAM.into(), arguments, starter: config.forwarder }
    }

    /// Has `program` run instead of this very binary.
    #[must_use]
    pub fn with_program(self, program: PathBuf) -> Self {
        Self { program, ..self }
    }

    /// Leaves the right forwarder alone, starts it when none runs, puts it in the place of another.
    ///
    /// # Errors
    /// [`SupervisorError`]; an old forwarder goes on when the new one does not come up.
    pub async fn ensure(&self) -> Result<Ensured, SupervisorError> {
        let _only_one = self.lock()?;
        let wanted = self.instance_path()?;
        let unit = instance::path(&self.config.run_dir, instance::UNIT);
        let running = self.running()?;
        // The service manager would start its own again, whoever stops it.
        let is_right = |process: &&Process| {
            process.pid_file == unit || (self.starter == Starter::Daemon && process.pid_file == wanted)
        };
        if let Some(right) = running.iter().find(is_right) {
            let pid = right.pid;
            self.stop_all(running.into_iter().filter(|process| process.pid != pid)).await?;
            return Ok(Ensured::Adopted { pid });
        }
        if self.starter == Starter::Unit {
            return Err(SupervisorError::NoUnit);
        }
        let handed = running.iter().find_map(|process| process.sockets(&self.config));
        let sockets = match handed {
            Some(sockets) => sockets,
            None => Listeners::open(&self.config)?,
        };
        let pid = process::start(self, &wanted, &sockets).await?;
        let replaced = !running.is_empty();
        self.stop_all(running.into_iter()).await?;
        Ok(if replaced { Ensured::Replaced { pid } } else { Ensured::Started { pid } })
    }

    /// Keeps one running: [`Self::ensure`], and again whenever it ends. Returns never; drop it to leave the forwarder alone.
    pub async fn keep(&self) -> std::convert::Infallible {
        let mut backoff = Duration::ZERO;
        loop {
            let since = Instant::now();
            match self.ensure().await {
                Ok(ensured) => {
                    info!(pid = ensured.pid(), ?ensured, "The DNS forwarder runs.");
                    match Process::open(ensured.pid(), PathBuf::new()) {
                        Ok(process) => process.ended().await,
                        Err(error) => warn!(%error, "The DNS forwarder ended early."),
                    }
                    warn!(pid = ensured.pid(), "The DNS forwarder ended.");
                }
                Err(error) => error!(%error, "Names of the outside do not resolve."),
            }
            backoff = if since.elapsed() > SETTLED {
                Duration::ZERO
            } else {
                (backoff * 2).clamp(Duration::from_millis(100), BACKOFF_MAX)
            };
            tokio::time::sleep(backoff).await;
        }
    }

    /// Stops every forwarder of the run directory and takes its files away.
    ///
    /// # Errors
    /// [`SupervisorError::Process`] when one does not let itself be stopped.
    pub async fn stop(&self) -> Result<(), SupervisorError> {
        if !self.config.run_dir.exists() {
            return Ok(());
        }
        let lock = self.lock()?;
        let running = self.running()?;
        self.stop_all(running.into_iter()).await?;
        for path in [self.log_path(), self.lock_path()] {
            remove(&path)?;
        }
        drop(lock);
        Ok(())
    }

    async fn stop_all(&self, processes: impl Iterator<Item = Process>) -> Result<(), SupervisorError> {
        for process in processes {
            process.stop(STOP_TIMEOUT).await?;
            remove(&process.pid_file)?;
        }
        Ok(())
    }

    /// The live forwarders of the run directory; pid files of dead ones are taken away.
    fn running(&self) -> Result<Vec<Process>, SupervisorError> {
        let directory = &self.config.run_dir;
        let failed = |source| SupervisorError::File { operation: "read", path: directory.clone(), source };
        let mut running = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if !instance::is_pid_file(&path) {
                continue;
            }
            match instance::holder(&path) {
                Ok(Some(pid)) => running.push(Process::open(pid, path)?),
                Ok(None) => remove(&path)?,
                Err(source) => return Err(SupervisorError::File { operation: "read", path, source }),
            }
        }
        Ok(running)
    }

    /// Of the forwarder that this supervisor would start.
    fn instance_path(&self) -> Result<PathBuf, SupervisorError> {
        let mut digest = DefaultHasher::new();
        let mut binary = File::open(&self.program)
            .map_err(|source| SupervisorError::Start { program: self.program.clone(), source })?;
        let mut block = vec![0; 1 << 16];
        loop {
            match binary.read(&mut block) {
                Ok(0) => break,
                Ok(n) => digest.write(&block[..n]),
                Err(source) => return Err(SupervisorError::Start { program: self.program.clone(), source }),
            }
        }
        for argument in &self.arguments {
            digest.write(argument.as_encoded_bytes());
            digest.write_u8(0);
        }
        Ok(instance::path(&self.config.run_dir, &format!("{:016x}", digest.finish())))
    }

    /// Two daemons that ensure at once would each start one.
    fn lock(&self) -> Result<Flock<File>, SupervisorError> {
        let path = self.lock_path();
        let failed = |source| SupervisorError::File { operation: "lock", path: path.clone(), source };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| failed(errno.into()))
    }

    fn lock_path(&self) -> PathBuf {
        self.config.run_dir.join("dns.lock")
    }

    fn log_path(&self) -> PathBuf {
        self.config.run_dir.join("dns.log")
    }
}

fn remove(path: &Path) -> Result<(), SupervisorError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(SupervisorError::File { operation: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
