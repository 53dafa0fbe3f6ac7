use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tests::load::Place;

/// A network namespace that lives as long as this.
pub(crate) struct Namespace(File);

impl Namespace {
    /// A new one, with nothing in it.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(Self(File::open("/proc/thread-self/ns/net")?))
        };
        std::thread::spawn(make).join().map_err(|_| anyhow::anyhow!("making a namespace panicked"))?
    }

    /// A path to it that holds in other processes too.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()))
    }

    pub(crate) fn place(&self) -> Place {
        Place { netns: Some(self.path()), core: None }
    }

    /// Calls `body` in a thread of its own inside.
    pub(crate) fn inside<T: Send>(&self, body: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        let place = self.place();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                place.enter()?;
                body()
            });
            thread.join().map_err(|_| anyhow::anyhow!("a thread inside a namespace panicked"))?
        })
    }
}

/// Gives the calling thread a network of its own, and mounts that nobody else sees.
pub(super) fn become_node() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("new namespaces (are you root?)")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("making the mounts private")
}

/// Runs ip(8) in the calling thread's namespace, a command per line.
pub(crate) fn ip(script: &str) -> anyhow::Result<()> {
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let output = Command::new("ip").args(line.split_whitespace()).output().context("starting ip(8)")?;
        ensure!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
