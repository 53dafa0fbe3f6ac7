//! Network namespaces without a name: nothing to clean up, they end with their last file.
//! And those of machines and containers, by the same handle.

use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace of a test's own. Needs root.
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// Makes an empty one: `lo` is there and down.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn new() -> Result<Self> {
        let make = || -> io::Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        };
        let file = on_a_thread(make).context("cannot make a network namespace: run the tests as root")?;
        Ok(Self { file })
    }

    /// One that is there already, by `/proc/<pid>/ns/net`; it stays while this lives.
    ///
    /// # Errors
    /// There is no such file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open the network namespace {}", path.display()))?;
        Ok(Self { file })
    }

    /// A file that stands for it while this lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// The cookie that the socket programs know it by: `SO_NETNS_COOKIE`, Linux 5.14.
    ///
    /// # Errors
    /// An older kernel.
    pub fn cookie(&self) -> Result<u64> {
        self.enter(|| {
            let socket = UdpSocket::bind("[::]:0")?;
            let (mut cookie, mut length) = (0_u64, size_of::<u64>() as libc::socklen_t);
            let to = (&raw mut cookie).cast();
            // SAFETY: `cookie` is as long as `length` says.
            let done = unsafe {
                libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, to, &mut length)
            };
            ensure!(done == 0, "SO_NETNS_COOKIE: {}", io::Error::last_os_error());
            Ok(cookie)
        })
    }

    /// Runs `work` on a thread inside.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_a_thread(|| {
            setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).context("cannot enter a network namespace")?;
            work()
        })
    }

    /// A program inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program);
        command
    }

    /// Runs a line such as `ip -j route` (words apart by blanks) inside; returns what it printed.
    ///
    /// # Errors
    /// With what it said, when it fails.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty line")?;
        let output = self.command(program).args(words).output().context("cannot run nsenter (util-linux)")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{line}: {}: {complaint}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A thread of its own, since a namespace belongs to a thread and a test's thread is used again.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
