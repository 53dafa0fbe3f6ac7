//! Keeps one process of a kind running, apart from the daemon that started it: the DNS forwarder, the userspace tunnel.
//!
//! Such a process holds a lock on its pid file, `<run-dir>/<name>-<key>.pid`; the key is a digest of its arguments, and
//! of its binary unless one of another build is to go on ([`Charge::keeps_build`]). So a later daemon sees whether the
//! one it would start runs already. One of another key is replaced; what it hands over ([`Handover`]) goes on without
//! a gap.

mod instance;
mod priority;
mod process;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use blake2::digest::consts::U8;
use blake2::{Blake2b, Digest as _};
use nix::fcntl::{Flock, FlockArg};
use tracing::{error, info, warn};

pub(crate) use self::instance::Instance;
pub use self::instance::InstanceError;
pub use self::priority::take_precedence;
pub use self::process::Process;
use crate::config::{self, Starter};
use crate::service_manager;

/// The program that is running, even after its file was replaced.
const PROGRAM: &str = "/proc/self/exe";
/// How long an old process may finish what it has begun.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest pause before a process that keeps ending is started again.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// One that lived that long is started again at once.
const SETTLED: Duration = Duration::from_secs(60);

/// The first descriptor that a process gets from its supervisor.
pub(crate) const HANDED_FD: RawFd = 3;
/// Set in the environment of a process that gets descriptors, from [`HANDED_FD`] on.
pub(crate) const HANDED: &str = "SKEP_HANDED_OVER";

/// A kind of process: one of it runs for a run directory.
#[derive(Debug, PartialEq, Eq)]
pub struct Charge {
    /// The subcommand of `skepd`, and the beginning of its files' names.
    pub name: &'static str,
    /// In messages.
    pub what: &'static str,
    /// The unit that it is where the service manager starts it.
    pub unit: &'static str,
    /// What does not work without it; a sentence.
    pub loss: &'static str,
    /// One of another build goes on, until somebody restarts it on purpose.
    pub keeps_build: bool,
    /// The unit is started when it is needed, not with the machine.
    pub on_demand: bool,
}

/// What a new process gets, at [`HANDED_FD`] and the numbers after it.
pub trait Handover: std::fmt::Debug + Send + Sync {
    /// Those of one that runs, or new ones.
    ///
    /// # Errors
    /// Why there are none.
    fn descriptors(&self, running: &[Process]) -> Result<Vec<OwnedFd>, Box<dyn std::error::Error + Send + Sync>>;
}

/// Starts, adopts, replaces and stops the process of a run directory.
#[derive(Debug, Clone)]
pub struct Supervisor {
    charge: &'static Charge,
    run_dir: PathBuf,
    program: PathBuf,
    arguments: Vec<OsString>,
    starter: Starter,
    handover: Option<Arc<dyn Handover>>,
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
    /// The process.
    pub fn pid(self) -> u32 {
        match self {
            Self::Adopted { pid } | Self::Started { pid } | Self::Replaced { pid } => pid,
        }
    }
}

/// Why the process could not be started, adopted or stopped.
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
    /// What it is to be handed.
    #[error(transparent)]
    Handover(Box<dyn std::error::Error + Send + Sync>),
    /// The process could not be started.
    #[error("cannot start {what}, {}: {source}", program.display())]
    Start {
        /// Which kind.
        what: &'static str,
        /// The binary.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The service manager's, and it does not run.
    #[error("{what} does not run: systemctl start {unit}")]
    NoUnit {
        /// Which kind.
        what: &'static str,
        /// The unit.
        unit: &'static str,
    },
    /// The service manager does not start it.
    #[error("{what} does not start: {source}; see journalctl -u {unit}")]
    Unit {
        /// Which kind.
        what: &'static str,
        /// The unit.
        unit: &'static str,
        /// What systemctl says.
        #[source]
        source: io::Error,
    },
    /// It ended or hung before it served.
    #[error("{what} did not come up: see {}", log.display())]
    NotReady {
        /// Which kind.
        what: &'static str,
        /// Its log.
        log: PathBuf,
    },
    /// A process could not be looked at or signalled.
    #[error("process {pid}: cannot {operation}: {source}")]
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
    /// For the daemon that runs with `config`; the process gets `options` beside those that name the daemon's own
    /// directories.
    pub fn new(charge: &'static Charge, config: &config::Config, options: Vec<(&str, OsString)>) -> Self {
        let own: [(&str, OsString); 4] = [
            ("--run-dir", config.run_dir.clone().into()),
            ("--state-dir", config.state_dir.clone().into()),
            ("--node-name", config.node_name.clone().into()),
            ("--log", config.log.clone().into()),
        ];
        let options = own.into_iter().chain(options).flat_map(|(flag, value)| [flag.into(), value]);
        let arguments = std::iter::once(charge.name.into()).chain(options).collect();
        let run_dir = config.run_dir.clone();
        Self { charge, run_dir, program: PROGRAM.into(), arguments, starter: config.forwarder, handover: None }
    }

    /// Has a new process get descriptors.
    #[must_use]
    pub fn with_handover(self, handover: Arc<dyn Handover>) -> Self {
        Self { handover: Some(handover), ..self }
    }

    /// Has `program` run instead of this very binary.
    #[must_use]
    pub fn with_program(self, program: PathBuf) -> Self {
        Self { program, ..self }
    }

    /// Leaves the right one alone, starts it when none runs, puts it in the place of another.
    ///
    /// # Errors
    /// [`SupervisorError`]; an old one goes on when the new one does not come up.
    pub async fn ensure(&self) -> Result<Ensured, SupervisorError> {
        let _only_one = self.lock()?;
        let wanted = self.instance_path()?;
        let unit = instance::path(self.charge, &self.run_dir, instance::UNIT);
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
            return self.start_unit(&unit).await;
        }
        let handed = match &self.handover {
            Some(handover) => handover.descriptors(&running).map_err(SupervisorError::Handover)?,
            None => Vec::new(),
        };
        let pid = process::start(self, &wanted, handed).await?;
        let replaced = !running.is_empty();
        self.stop_all(running.into_iter()).await?;
        Ok(if replaced { Ensured::Replaced { pid } } else { Ensured::Started { pid } })
    }

    /// Whether a process runs another program than this supervisor would start; `false` when nobody can tell.
    pub fn is_of_another_build(&self, pid: u32) -> bool {
        let inode = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
        let running = inode(&PathBuf::from(format!("/proc/{pid}/exe")));
        running.zip(inode(&self.program)).is_some_and(|(running, own)| running != own)
    }

    /// Waits until a process has ended, but no longer than it may take to; at once when there is none.
    pub async fn ended(&self, pid: u32) {
        if let Ok(process) = Process::open(pid, PathBuf::new()) {
            let _still_there = tokio::time::timeout(STOP_TIMEOUT, process.ended()).await;
        }
    }

    /// Keeps one running: [`Self::ensure`], and again whenever it ends. Returns never; drop it to leave
    /// the process alone.
    pub async fn keep(&self) -> std::convert::Infallible {
        let mut backoff = Duration::ZERO;
        loop {
            let since = Instant::now();
            match self.ensure().await {
                Ok(ensured) => {
                    info!(pid = ensured.pid(), ?ensured, "{} runs.", self.charge.what);
                    match Process::open(ensured.pid(), PathBuf::new()) {
                        Ok(process) => process.ended().await,
                        Err(error) => warn!(%error, "{} ended early.", self.charge.what),
                    }
                    warn!(pid = ensured.pid(), "{} ended.", self.charge.what);
                }
                Err(error) => error!(%error, "{}", self.charge.loss),
            }
            backoff = if since.elapsed() > SETTLED {
                Duration::ZERO
            } else {
                (backoff * 2).clamp(Duration::from_millis(100), BACKOFF_MAX)
            };
            tokio::time::sleep(backoff).await;
        }
    }

    /// Stops every such process of the run directory and takes its files away.
    ///
    /// # Errors
    /// [`SupervisorError::Process`] when one does not let itself be stopped.
    pub async fn stop(&self) -> Result<(), SupervisorError> {
        if !self.run_dir.exists() {
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

    /// The live ones of the run directory; pid files of dead ones are taken away.
    pub(crate) fn running(&self) -> Result<Vec<Process>, SupervisorError> {
        let directory = &self.run_dir;
        let failed = |source| SupervisorError::File { operation: "read", path: directory.clone(), source };
        let mut running = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if !instance::is_pid_file(self.charge, &path) {
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

    /// Of the process that this supervisor would start.
    fn instance_path(&self) -> Result<PathBuf, SupervisorError> {
        // One whose value is the same whatever compiler has built this.
        let mut digest = Blake2b::<U8>::new();
        let arguments = if self.charge.keeps_build {
            // What only tells how to log makes no other process either.
            let log = self.arguments.iter().position(|argument| argument == "--log");
            self.arguments
                .iter()
                .enumerate()
                .filter(|(i, _)| log.is_none_or(|at| *i != at + 1))
                .map(|(_, a)| a)
                .collect()
        } else {
            let (what, program) = (self.charge.what, &self.program);
            let failed = |source| SupervisorError::Start { what, program: program.clone(), source };
            read(program, |block| digest.update(block)).map_err(failed)?;
            self.arguments.iter().collect::<Vec<_>>()
        };
        for argument in arguments {
            digest.update(argument.as_encoded_bytes());
            digest.update([0]);
        }
        let key = u64::from_be_bytes(digest.finalize().into());
        Ok(instance::path(self.charge, &self.run_dir, &format!("{key:016x}")))
    }

    /// Has the service manager start its own.
    async fn start_unit(&self, pid_file: &Path) -> Result<Ensured, SupervisorError> {
        let Charge { what, unit, on_demand, .. } = *self.charge;
        if !on_demand {
            return Err(SupervisorError::NoUnit { what, unit });
        }
        service_manager::start(unit).await.map_err(|source| SupervisorError::Unit { what, unit, source })?;
        let running = self.running()?;
        let started = running.iter().find(|process| process.pid_file == pid_file);
        started.map(|process| Ensured::Started { pid: process.pid }).ok_or(SupervisorError::NoUnit { what, unit })
    }

    /// Two daemons that ensure at once would each start one.
    fn lock(&self) -> Result<Flock<File>, SupervisorError> {
        let path = self.lock_path();
        let failed = |source| SupervisorError::File { operation: "lock", path: path.clone(), source };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| failed(errno.into()))
    }

    fn lock_path(&self) -> PathBuf {
        self.run_dir.join(format!("{}.lock", self.charge.name))
    }

    fn log_path(&self) -> PathBuf {
        self.run_dir.join(format!("{}.log", self.charge.name))
    }
}

/// Hands a file's content over, block by block.
fn read(path: &Path, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut block = vec![0; 1 << 16];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(()),
            n => each(&block[..n]),
        }
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
