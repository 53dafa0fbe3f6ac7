use std::process::Command;

use anyhow::{Context as _, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tests::load::Place;
use tests::netns::Namespace;

/// Where a thread goes to be in a namespace.
pub(crate) fn place(namespace: &Namespace) -> anyhow::Result<Place> {
    Ok(Place::inside(Namespace::open(&namespace.path())?))
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
