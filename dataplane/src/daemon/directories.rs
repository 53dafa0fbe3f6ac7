//! The daemon's own directories.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, statfs};
use tracing::info;

use super::DaemonError;
use crate::config::Config;

/// Where bpffs is expected (systemd mounts it there).
const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of the kernel's `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: FsType = FsType(0xcafe_4a11);

/// Makes state and run directory: the state for root alone, the run directory for whoever may use the socket in it.
pub(crate) fn make(config: &Config) -> Result<(), DaemonError> {
    for (path, mode) in [(&config.state_dir, 0o700), (&config.run_dir, 0o755)] {
        let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
        made.map_err(failed("make", path))?;
    }
    Ok(())
}

/// Writes a small file, whole or not at all.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), DaemonError> {
    let new = path.with_extension("new");
    fs::write(&new, content).map_err(failed("write", &new))?;
    fs::rename(&new, path).map_err(failed("write", path))
}

/// Mounts bpffs at its usual place when the pins are to be there and nobody has. What is mounted elsewhere, or not
/// at all, the check of the machine tells.
///
/// # Errors
/// [`DaemonError::File`] when the kernel refuses.
pub(super) fn prepare_bpffs(config: &Config) -> Result<(), DaemonError> {
    let place = Path::new(BPFFS);
    if !config.bpffs.starts_with(place) || !nix::unistd::geteuid().is_root() || is_bpffs(place) {
        return Ok(());
    }
    mount(Some("bpf"), place, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .map_err(|errno| failed("mount bpffs at", place)(errno.into()))?;
    let mark = bpffs_mark(config);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.state_dir)
        .map_err(failed("make", &config.state_dir))?;
    fs::write(&mark, "").map_err(failed("write", &mark))?;
    info!(at = BPFFS, "Mounted bpffs.");
    Ok(())
}

/// The file that says that skepd mounted bpffs, so that uninstall unmounts it.
pub fn bpffs_mark(config: &Config) -> PathBuf {
    config.state_dir.join("mounted-bpffs")
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}

pub(super) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DaemonError {
    let path = path.to_owned();
    move |source| DaemonError::File { operation, path, source }
}
