use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, Interest};
use tokio::process::Command;
use tracing::warn;

use super::super::Config;
use super::super::sockets::{HANDED, Listeners, TCP_FD, UDP_FD};
use super::instance::{PID_FILE, READY};
use super::{Supervisor, SupervisorError};

/// How long a new forwarder may take until it serves.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// A log that has grown beyond this many octets is begun anew with the next forwarder.
const LOG_MAX: u64 = 1 << 20;

/// A live forwarder, held by a pidfd: its pid cannot come to mean another process.
pub(super) struct Process {
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

    /// Duplicates of its sockets, when they are what `config` asks for.
    pub(super) fn sockets(&self, config: &Config) -> Option<Listeners> {
        let get = |fd| pidfd_getfd(self.pidfd.get_ref(), fd, PidfdGetfdFlags::empty());
        match (get(UDP_FD), get(TCP_FD)) {
            (Ok(udp), Ok(tcp)) => Some(Listeners { udp, tcp }).filter(|sockets| sockets.serve(config)),
            (Err(error), _) | (_, Err(error)) => {
                warn!(pid = self.pid, %error, "Cannot take over the sockets; opening new ones beside them.");
                None
            }
        }
    }

    /// Until the process has ended.
    pub(super) async fn ended(&self) {
        // A pidfd becomes readable when its process ends; an error here means that it cannot be watched any more.
        if let Err(error) = self.pidfd.readable().await {
            warn!(pid = self.pid, %error, "Cannot watch the DNS forwarder.");
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

/// Starts a forwarder that outlives this process, and waits until it serves.
pub(super) async fn start(
    supervisor: &Supervisor,
    pid_file: &Path,
    sockets: &Listeners,
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
    command.env(HANDED, "1").env(PID_FILE, pid_file);
    // What a service manager wants to know of the daemon, this process is not to tell.
    command.env_remove("NOTIFY_SOCKET");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    hand_over(&mut command, sockets);
    let mut child = command.spawn().map_err(|source| SupervisorError::Start { program, source })?;
    let mut said = [0; READY.len()];
    let ready = match child.stdout.take() {
        Some(mut out) => tokio::time::timeout(READY_TIMEOUT, out.read_exact(&mut said)).await,
        None => Ok(Err(io::ErrorKind::BrokenPipe.into())),
    };
    match (ready, child.id()) {
        (Ok(Ok(_)), Some(pid)) if said == READY.as_bytes() => Ok(pid),
        _ => {
            if let Err(error) = child.kill().await {
                warn!(%error, "The DNS forwarder that did not come up cannot be killed.");
            }
            Err(SupervisorError::NotReady { log: log_path })
        }
    }
}

/// In the new process, before its program: a session of its own, the sockets at the numbers agreed on.
fn hand_over(command: &mut Command, sockets: &Listeners) {
    let (udp, tcp) = (sockets.udp.as_raw_fd(), sockets.tcp.as_raw_fd());
    let prepare = move || {
        // A signal to the daemon's terminal or session is none of the forwarder's business.
        nix::unistd::setsid()?;
        // Out of the way first: either may have the other's target number.
        // SAFETY: fcntl and dup2 take and make file descriptors of this process, which is about to become another program.
        let results = unsafe {
            let udp = libc::fcntl(udp, libc::F_DUPFD_CLOEXEC, TCP_FD + 1);
            let tcp = libc::fcntl(tcp, libc::F_DUPFD_CLOEXEC, TCP_FD + 1);
            [udp, tcp, libc::dup2(udp, UDP_FD), libc::dup2(tcp, TCP_FD)]
        };
        if results.contains(&-1) { Err(io::Error::last_os_error()) } else { Ok(()) }
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
