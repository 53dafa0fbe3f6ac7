use std::path::{Path, PathBuf};

use dataplane::bpf::{Maps, Pins};
use dataplane::config::BPFFS_FILE_NAME;

use crate::cli::Global;
use crate::error::CtlError;

const RUN_DIR: &str = "/run/skep";
const BPFFS: &str = "/sys/fs/bpf/skep";

/// skepd's run directory.
pub(crate) fn run_dir(global: &Global) -> PathBuf {
    let beside = || global.socket.as_deref().and_then(Path::parent).map(Path::to_owned);
    global.run_dir.clone().or_else(beside).unwrap_or_else(|| RUN_DIR.into())
}

/// Where the maps are pinned: told, or left by skepd in its run directory, or where they are by default.
pub(crate) fn of(global: &Global) -> Pins {
    let left = || {
        let text = std::fs::read_to_string(run_dir(global).join(BPFFS_FILE_NAME)).ok()?;
        Some(PathBuf::from(text.trim_end_matches('\n')))
    };
    Pins::new(&global.bpffs.clone().or_else(left).unwrap_or_else(|| BPFFS.into()))
}

/// The pinned maps, for reading.
pub(crate) fn open(global: &Global) -> Result<Maps, CtlError> {
    Ok(Maps::open_read_only(&of(global))?)
}
