//! A long-running process of a machine: a daemon, a server, a load generator.

use std::{
    fs,
    fs::File,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{command::line, wait::wait_for};

/// A process inside a machine, with its output in a log file. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    what: String,
    entered: Child,
    pid: Pid,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, which is an `nsenter` that forks (entering a PID namespace takes a fork).
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let what = line(&command);
        let open = || File::options().create(true).append(true).open(log).with_context(|| format!("{}", log.display()));
        let mut entered = command
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?)
            .spawn()
            .with_context(|| format!("cannot start `{what}`"))?;
        let pid =
            wait_for(&format!("the process of `{what}`"), Duration::from_secs(10), || match child_of(entered.id())? {
                Some(pid) => Ok(Some(pid)),
                // It may have ended already, or nsenter itself failed.
                None => Ok(entered.try_wait()?.map(|_| pid_of(entered.id()))),
            })?;
        Ok(Self { what, entered, pid, log: log.to_path_buf() })
    }

    /// Its PID as the test sees it (not as the machine does).
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// What it wrote so far, standard output and standard error.
    ///
    /// # Errors
    /// The log file cannot be read.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("{}", self.log.display()))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid, signal).with_context(|| format!("{signal} to `{}`", self.what))?;
        if signal == Signal::SIGCONT {
            // `nsenter` stops with the process that it started.
            kill(pid_of(self.entered.id()), signal).with_context(|| format!("{signal} to nsenter"))?;
        }
        Ok(())
    }

    /// Its exit status, once it has ended.
    ///
    /// # Errors
    /// The kernel does not know the process.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.entered.try_wait().with_context(|| format!("`{}`", self.what))
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// It is still there after `deadline`.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("the end of `{}`", self.what);
        wait_for(&what, deadline, || Ok(self.entered.try_wait()?))
    }

    /// An error with the end of its log, if it has ended although it should not have.
    ///
    /// # Errors
    /// It has ended.
    pub fn must_be_running(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("`{}` ended: {status}\n{}", self.what, tail(&self.log()?, 40)),
        }
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        match kill(self.pid, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => bail!("SIGKILL to `{}`: {errno}", self.what),
        }
        self.entered.wait().with_context(|| format!("the end of `{}`", self.what))?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.entered.try_wait(), Ok(Some(_))) {
            // The machine's end would take it along in any case.
            let _gone = self.kill();
        }
    }
}

/// The last `lines` lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The first child of a process.
pub(crate) fn child_of(pid: u32) -> Result<Option<Pid>> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    match fs::read_to_string(&path) {
        Ok(children) => Ok(children.split_whitespace().next().and_then(|pid| pid.parse().ok()).map(Pid::from_raw)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(path),
    }
}

/// A PID as `nix` wants it; PIDs are far below 2³¹.
pub(crate) fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}
