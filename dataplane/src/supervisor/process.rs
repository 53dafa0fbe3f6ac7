use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, Interest};
use tokio::process::Command;
use tracing::warn;

use super::instance::{PID_FILE, READY};
use super::{HANDED, HANDED_FD, Supervisor, SupervisorError};

/// How long a new process may take until it serves.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// A log that has grown beyond this many octets is begun anew with the next process.
const LOG_MAX: u64 = 1 << 20;

/// A live process, held by a pidfd: its pid cannot come to mean another process.
pub struct Process {
    pub(super) pid: u32,
    pub(super) pid_file: PathBuf,
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    pub(super) fn open(pid: u32, pid_file: PathBuf) -> Result<Self, SupervisorError> {
        let failed = |source| SupervisorError::Process { pid, operation: "open it", source };
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).map_err(|errno| failed(errno.into()))?;
        // SAFETY: the descriptor belongs to the `AsyncFd`, which hands out shared references only.
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
        Ok(Self { pid, pid_file, pidfd: pidfd.map_err(|error| failed(error.into()))? })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A duplicate of one of its descriptors.
    ///
    /// # Errors
    /// What the kernel says: it has none of that number, or this process may not.
    pub fn descriptor(&self, fd: RawFd) -> io::Result<OwnedFd> {
        Ok(pidfd_getfd(self.pidfd.get_ref(), fd, PidfdGetfdFlags::empty())?)
    }

    /// Until the process has ended.
    pub(super) async fn ended(&self) {
        // A pidfd becomes readable when its process ends; an error here means that it cannot be watched any more.
        if let Err(error) = self.pidfd.readable().await {
            warn!(pid = self.pid, %error, "Cannot watch the process.");
        }
    }

    /// SIGTERM; SIGKILL when that has no effect within `timeout`.
    pub(super) async fn stop(&self, timeout: Duration) -> Result<(), SupervisorError> {
        self.signal(Signal::TERM)?;
        if tokio::time::timeout(timeout, self.ended()).await.is_err() {
            self.signal(Signal::KILL)?;
            self.ended().await;
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), SupervisorError> {
        match pidfd_send_signal(self.pidfd.get_ref(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(SupervisorError::Process { pid: self.pid, operation: "signal it", source: errno.into() }),
        }
    }
}

/// Starts one that outlives this process, and waits until it serves.
pub(super) async fn start(
    supervisor: &Supervisor,
    pid_file: &Path,
    handed: Vec<OwnedFd>,
) -> Result<u32, SupervisorError> {
    let program = supervisor.program.clone();
    let log_path = supervisor.log_path();
    let log = open_log(&log_path).map_err(|source| SupervisorError::File {
        operation: "open",
        path: log_path.clone(),
        source,
    })?;
    let mut command = Command::new(&program);
    command.arg0("skepd").args(&supervisor.arguments).current_dir("/");
    command.env(PID_FILE, pid_file);
    if !handed.is_empty() {
        command.env(HANDED, "1");
    }
    // What a service manager wants to know of the daemon, this process is not to tell.
    command.env_remove("NOTIFY_SOCKET");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    hand_over(&mut command, handed);
    let what = supervisor.charge.what;
    let mut child = command.spawn().map_err(|source| SupervisorError::Start { what, program, source })?;
    let mut said = [0; READY.len()];
    let ready = match child.stdout.take() {
        Some(mut out) => tokio::time::timeout(READY_TIMEOUT, out.read_exact(&mut said)).await,
        None => Ok(Err(io::ErrorKind::BrokenPipe.into())),
    };
    match (ready, child.id()) {
        (Ok(Ok(_)), Some(pid)) if said == READY.as_bytes() => Ok(pid),
        _ => {
            if let Err(error) = child.kill().await {
                warn!(%error, "{what} did not come up and cannot be killed.");
            }
            Err(SupervisorError::NotReady { what, log: log_path })
        }
    }
}

/// In the new process, before its program: a session of its own, the descriptors at the numbers agreed on.
fn hand_over(command: &mut Command, handed: Vec<OwnedFd>) {
    let end = HANDED_FD + RawFd::try_from(handed.len()).unwrap_or(0);
    // Made here, since nothing may be allocated between fork and exec.
    let mut aside = vec![-1; handed.len()];
    let prepare = move || {
        // A signal to the daemon's terminal or session is none of this process' business.
        nix::unistd::setsid()?;
        // Out of the way first: any may have another's target number.
        for (place, fd) in aside.iter_mut().zip(&handed) {
            // SAFETY: makes a file descriptor of this process, which is about to become another program.
            *place = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, end) };
        }
        for (target, fd) in (HANDED_FD..end).zip(&aside) {
            // SAFETY: as above.
            if *fd == -1 || unsafe { libc::dup2(*fd, target) } == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: `prepare` makes system calls only, which is all that is allowed between fork and exec.
    unsafe { command.pre_exec(prepare) };
}

fn open_log(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).append(true).open(path)?;
    if file.metadata()?.len() > LOG_MAX {
        file.set_len(0)?;
    }
    Ok(file)
}
