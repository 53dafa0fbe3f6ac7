//! A throw-away computer made of namespaces.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, Child, ChildStdin, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::{Pid, Uid};

use crate::{command, netns::Namespace, process::Process};

/// Makes the name and removes what is left; see there.
const WATCHDOG: &str = include_str!("machine/watchdog.sh");
/// PID 1.
const INIT: &str = include_str!("machine/init.sh");
/// No command in a machine takes longer; one that hangs should not hang the test.
const PATIENCE_SECONDS: &str = "180";

/// A throw-away computer: its own network, mount, PID, IPC and host-name namespaces.
///
/// Inside it, PID 1 is a small shell; `/proc`, `/sys` (with the cgroups of the real machine),
/// `/run` and a bpffs at `/sys/fs/bpf` are its own, and writes to `/etc` stay in it.
///
/// When it is dropped, or the test process ends in any way, the kernel kills PID 1 and with it every
/// process inside; with the last process go the namespaces, and with them mounts, pins, veths, routes
/// and rules. A watchdog outside then removes its cgroups and its directory.
#[derive(Debug)]
pub struct Machine {
    name: String,
    directory: PathBuf,
    pid: Pid,
    watchdog: Child,
    /// Closing it ends the machine. Close-on-exec: no other process holds it.
    life_line: Option<ChildStdin>,
}

impl Machine {
    /// Makes a machine. `role` becomes part of its name: `skep-<role>-<pid>-<counter>`.
    ///
    /// # Errors
    /// Not root, or the kernel refuses a namespace or a mount.
    pub fn new(role: &str) -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(1);
        ensure!(Uid::effective().is_root(), "a machine needs root: run the tests with `cargo xtask test`");
        let name = format!("skep-{role}-{}-{}", process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        // Not /tmp, which may be a tmpfs: images are large.
        let directory = Path::new("/var/tmp").join(&name);
        fs::create_dir(&directory).with_context(|| format!("{}", directory.display()))?;
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog", &name])
            .arg(&directory)
            .arg(INIT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("cannot start sh")?;
        let life_line = watchdog.stdin.take();
        let mut pid = String::new();
        BufReader::new(watchdog.stdout.take().context("no output of the watchdog")?).read_line(&mut pid)?;
        let pid = pid
            .trim()
            .parse()
            .with_context(|| format!("{name} did not come up; is this root on Linux with namespaces?"))?;
        Ok(Self { name, directory, pid: Pid::from_raw(pid), watchdog, life_line })
    }

    /// Its name, also its host name; unique on this computer.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The PID of its PID 1, as the test sees it.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A directory for its files, at the same path inside and outside.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path inside the machine as the test can open it: `/sys/fs/bpf/x` → `/proc/<pid>/root/sys/fs/bpf/x`.
    #[must_use]
    pub fn outside(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        Path::new("/proc").join(self.pid.to_string()).join("root").join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Its netns.
    ///
    /// # Errors
    /// It has ended.
    pub fn netns(&self) -> Result<Namespace> {
        Namespace::open(&Path::new("/proc").join(self.pid.to_string()).join("ns/net"))
    }

    /// A command that will run inside the machine, in all its namespaces.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--target", &self.pid.to_string(), "--"]);
        command.args(arguments);
        command
    }

    /// A command that will run outside, with the network and the files of the caller, and ends with the machine.
    #[must_use]
    pub fn companion<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--pid", "--target", &self.pid.to_string(), "--"]).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a command inside and gives its output, right-trimmed; it must succeed.
    ///
    /// # Errors
    /// It fails, or takes longer than three minutes.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        command::run(&mut self.patient(arguments)).with_context(|| format!("on {}", self.name))
    }

    /// Runs a command inside, whatever its exit status (124 after three minutes).
    ///
    /// # Errors
    /// It cannot be started.
    pub fn output<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Output> {
        command::output(&mut self.patient(arguments))
    }

    /// Runs a shell script inside (`sh -ec`); it must succeed.
    ///
    /// # Errors
    /// A command of the script fails.
    pub fn shell(&self, script: &str) -> Result<String> {
        self.run(&["sh", "-ec", script])
    }

    /// Starts a long-running process inside, with its output in `<directory>/<log>.log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn<S: AsRef<OsStr>>(&self, log: &str, arguments: &[S]) -> Result<Process> {
        Process::start(self.command(arguments), &self.directory.join(format!("{log}.log")))
    }

    /// [`Self::command`] under `timeout`, which runs inside: a killed `nsenter` would leave its child.
    fn patient<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.command(&["timeout", "--kill-after=5", PATIENCE_SECONDS]);
        command.args(arguments).stdin(Stdio::null());
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.life_line.take());
        let _status = self.watchdog.wait();
    }
}
