//! The node's own skepd and skepctl.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{ExitStatus, Output},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;

use super::{Node, lock};
use crate::{
    paths,
    process::{Process, tail},
    wait::wait_for,
};

/// skepd takes this long to start or stop on a busy computer; the kernel verifies programs meanwhile.
const DEADLINE: Duration = Duration::from_secs(60);
/// Where a node's pins are, as the node sees it.
const BPFFS: &str = "/sys/fs/bpf/skep";

impl Node {
    /// The directory of its API socket.
    #[must_use]
    pub fn run_directory(&self) -> PathBuf {
        self.machine.directory().join("skep-run")
    }

    /// The directory of its store.
    #[must_use]
    pub fn state_directory(&self) -> PathBuf {
        self.machine.directory().join("skep-state")
    }

    /// Makes and mounts the file system of [`crate::NodeBuilder::small_state`]; it goes with the machine's mount
    /// namespace.
    pub(super) fn mount_small_state(&self) -> Result<()> {
        let image = self.machine.directory().join("skep-state.img");
        self.machine.shell(&format!(
            "truncate -s 16M {image} && mkfs.ext4 -q -m 0 -N 64 -O ^has_journal {image} && mkdir -p {state}",
            image = image.display(),
            state = self.state_directory().display(),
        ))?;
        self.mount_state_again()
    }

    /// Mounts that file system, after the kernel or a test took it away.
    ///
    /// # Errors
    /// It is mounted already, or there is none.
    pub fn mount_state_again(&self) -> Result<()> {
        let (image, state) = (self.machine.directory().join("skep-state.img"), self.state_directory());
        self.machine.shell(&format!("mount -o loop,errors=remount-ro {} {}", image.display(), state.display()))?;
        Ok(())
    }

    /// Its API socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_directory().join("skepd.sock")
    }

    /// Its pins, as the test can open them (`BPF_OBJ_GET` takes the path).
    #[must_use]
    pub fn bpffs(&self) -> PathBuf {
        self.machine.outside(BPFFS)
    }

    /// The command line of its skepd; `[1..]` are the options, which `skepd check` takes as well.
    ///
    /// # Errors
    /// skepd is not built.
    pub fn skepd_command_line(&self) -> Result<Vec<String>> {
        let option = |name: &str, value: String| [name.to_owned(), value];
        let mut line = vec![paths::program("skepd")?.display().to_string()];
        line.extend(option("--state-dir", self.state_directory().display().to_string()));
        line.extend(option("--run-dir", self.run_directory().display().to_string()));
        line.extend(option("--bpffs", BPFFS.to_owned()));
        line.extend(option("--docker", self.docker_url()));
        line.extend(option("--node-name", self.machine.name().to_owned()));
        line.extend(option("--log", self.log.clone()));
        line.extend(self.skepd_arguments.iter().cloned());
        Ok(line)
    }

    /// `skepd <arguments>` with the options of this node's daemon, whatever its exit status.
    ///
    /// # Errors
    /// skepd is not built.
    pub fn skepd(&self, arguments: &[&str]) -> Result<Output> {
        let line = self.skepd_command_line()?;
        let (program, options) = line.split_first().context("no program")?;
        let options = options.iter().map(String::as_str);
        self.output(&[program.as_str()].into_iter().chain(arguments.iter().copied()).chain(options).collect::<Vec<_>>())
    }

    /// Starts skepd and waits until its API accepts connections.
    ///
    /// # Errors
    /// It ends (the message has its log), or does not accept within a minute.
    pub fn start_skepd(&self) -> Result<()> {
        self.start_as_skepd("skepd")
    }

    /// [`Self::start_skepd`] with another program of this workspace in its place.
    ///
    /// # Errors
    /// As there.
    pub fn start_as_skepd(&self, program: &str) -> Result<()> {
        self.spawn(program, &[])?;
        let socket = self.socket();
        // After a SIGKILL the old socket is still there, but refuses.
        let accepts = wait_for("skepd's API", DEADLINE, || {
            // One that has ended will never accept: its log says why, at once.
            Ok(match lock(&self.skepd).as_mut().map_or(Ok(()), Process::must_be_running) {
                Ok(()) => UnixStream::connect(&socket).ok().map(|_| Ok(())),
                Err(ended) => Some(Err(ended)),
            })
        });
        accepts.flatten().inspect_err(|_| drop(lock(&self.skepd).take()))
    }

    /// Starts skepd with further options and does not wait for anything.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn_skepd(&self, options: &[&str]) -> Result<()> {
        self.spawn("skepd", options)
    }

    fn spawn(&self, program: &str, options: &[&str]) -> Result<()> {
        for directory in [self.state_directory(), self.run_directory()] {
            fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        }
        let mut line = self.skepd_command_line()?;
        line[0] = paths::program(program)?.display().to_string();
        let line: Vec<&str> = line.iter().map(String::as_str).chain(options.iter().copied()).collect();
        *lock(&self.skepd) = Some(self.machine.spawn("skepd", &line)?);
        Ok(())
    }

    /// The exit status of a skepd that has ended by itself.
    ///
    /// # Errors
    /// It was never started, or was stopped.
    pub fn skepd_ended(&self) -> Result<Option<ExitStatus>> {
        lock(&self.skepd).as_mut().context("skepd is not running")?.ended()
    }

    /// SIGKILL to skepd; it is gone when this returns.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_skepd(&self) -> Result<()> {
        lock(&self.skepd).take().context("skepd is not running")?.kill()
    }

    /// SIGTERM to skepd; gives its exit status.
    ///
    /// # Errors
    /// It does not run, or does not end.
    pub fn stop_skepd(&self) -> Result<ExitStatus> {
        let mut skepd = lock(&self.skepd).take().context("skepd is not running")?;
        skepd.signal(Signal::SIGTERM)?;
        skepd.wait(DEADLINE)
    }

    /// [`Self::stop_skepd`], then [`Self::start_skepd`].
    ///
    /// # Errors
    /// As both.
    pub fn restart_skepd(&self) -> Result<()> {
        self.stop_skepd()?;
        self.start_skepd()
    }

    /// The PID of skepd, as the test sees it.
    ///
    /// # Errors
    /// It does not run.
    pub fn skepd_pid(&self) -> Result<Pid> {
        Ok(lock(&self.skepd).as_ref().context("skepd is not running")?.pid())
    }

    /// What skepd has logged so far, over all its starts.
    ///
    /// # Errors
    /// It has never been started.
    pub fn skepd_log(&self) -> Result<String> {
        let path = self.machine.directory().join("skepd.log");
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// `skepctl <arguments>`; it must succeed. Gives its output.
    ///
    /// # Errors
    /// What skepctl says.
    pub fn skepctl(&self, arguments: &[&str]) -> Result<String> {
        self.run(&as_strs(&self.skepctl_line(arguments)?)).with_context(|| {
            let log = fs::read_to_string(self.machine.directory().join("skepd.log")).unwrap_or_default();
            format!("the end of skepd's log:\n{}\n", tail(&log, 25))
        })
    }

    /// `skepctl <arguments>`, whatever its exit status.
    ///
    /// # Errors
    /// It is not built.
    pub fn skepctl_output(&self, arguments: &[&str]) -> Result<Output> {
        self.output(&as_strs(&self.skepctl_line(arguments)?))
    }

    /// `skepctl -o json <arguments>`, parsed; it must succeed.
    ///
    /// # Errors
    /// What skepctl says, or its output is not JSON.
    pub fn skepctl_json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.skepctl(&[&["-o", "json"], arguments].concat())?;
        serde_json::from_str(&text).with_context(|| format!("`skepctl {}` gave no JSON: {text}", arguments.join(" ")))
    }

    /// The command line of skepctl, for this node.
    ///
    /// # Errors
    /// It is not built.
    pub fn skepctl_line(&self, arguments: &[&str]) -> Result<Vec<String>> {
        let mut line = vec![paths::program("skepctl")?.display().to_string()];
        line.extend(["--socket".to_owned(), self.socket().display().to_string()]);
        line.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        Ok(line)
    }
}

/// Borrows.
fn as_strs(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}
