//! One daemon to a state, one to a set of pins, and each on its own machine.

use std::fs::{self, File};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::DaemonError;
use super::directories::{failed, write};
use crate::config::Config;

/// What tells machines apart, on every one with systemd or D-Bus (machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";

/// Keeps other daemons off the pins, whatever their state directory is; ends when it is dropped.
#[derive(Debug)]
pub(super) struct PinsLock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

/// Takes the pins for this daemon alone.
///
/// # Errors
/// [`DaemonError::PinsInUse`] when another one has them, [`DaemonError::File`].
pub(super) fn lock_pins(config: &Config) -> Result<PinsLock, DaemonError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let path = &config.bpffs;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make", path))?;
    let directory = File::open(path).map_err(failed("open", path))?;
    match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(PinsLock(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Err(DaemonError::PinsInUse { bpffs: path.clone() }),
        Err((_, errno)) => Err(failed("lock", path)(errno.into())),
    }
}

/// Refuses a state directory that came from another machine: both would hand out the same ids and addresses. A
/// machine without an id is not told apart from others.
///
/// # Errors
/// [`DaemonError::OtherMachine`], [`DaemonError::File`].
pub(super) fn check_machine(config: &Config) -> Result<(), DaemonError> {
    let file = config.state_dir.join("machine-id");
    let here = machine(Path::new(MACHINE_ID));
    match (machine(&file), here) {
        (_, None) => Ok(()),
        (None, Some(here)) => write(&file, here.as_bytes()),
        (Some(then), Some(here)) if then == here => Ok(()),
        (Some(_), Some(_)) => Err(DaemonError::OtherMachine { state_dir: config.state_dir.clone(), file }),
    }
}

fn machine(path: &Path) -> Option<String> {
    let id = fs::read_to_string(path).ok()?.trim().to_owned();
    // `uninitialized` is what systemd writes into an image before its first boot.
    (!id.is_empty() && id != "uninitialized").then_some(id)
}
