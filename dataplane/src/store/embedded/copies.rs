//! The last good copies of the store, beside it: each a whole snapshot with a checksum, written anew and put in place
//! at once, so that there is a sound one at every moment.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::durable::sync_directory;
use crate::store::StoreError;
use crate::store::file::{beside, failure};
use crate::store::snapshot::Snapshot;

/// Newest first.
const SUFFIXES: [&str; 2] = ["copy", "copy.1"];

/// Makes `snapshot` the newest copy.
pub(super) fn write(store: &Path, snapshot: &Snapshot) -> Result<(), StoreError> {
    let [newest, older] = SUFFIXES.map(|suffix| beside(store, suffix));
    let new = beside(store, "copy.new");
    let put = || -> io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&snapshot.encode())?;
        file.sync_all()?;
        match std::fs::rename(&newest, &older) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::rename(&new, &newest)?;
        sync_directory(store)
    };
    put().map_err(|source| {
        let _absent = std::fs::remove_file(&new);
        failure("copy", store, source)
    })
}

/// A copy that was found.
#[derive(Debug)]
pub struct Copied {
    /// Its file.
    pub path: PathBuf,
    /// What it holds, or why that cannot be told.
    pub content: Result<Snapshot, String>,
}

/// Every copy there is, newest first.
pub(super) fn all(store: &Path) -> Vec<Copied> {
    let read = |suffix| {
        let path = beside(store, suffix);
        let content = match std::fs::read(&path) {
            Ok(bytes) => Snapshot::decode(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Err(error.to_string()),
        };
        Some(Copied { path, content })
    };
    SUFFIXES.into_iter().filter_map(read).collect()
}

/// The newest sound one.
pub(super) fn newest(store: &Path) -> Option<Snapshot> {
    all(store).into_iter().filter_map(|copy| copy.content.ok()).max_by_key(|snapshot| snapshot.revision)
}

/// Why a store cannot be what it was when `copy` was made of it.
pub(super) fn contradiction(snapshot: &Snapshot, copy: &Snapshot) -> Option<String> {
    match snapshot.revision.cmp(&copy.revision) {
        std::cmp::Ordering::Less => Some(format!(
            "it ends at revision {}, but its copy was made at {}: changes are lost",
            snapshot.revision, copy.revision
        )),
        std::cmp::Ordering::Equal if snapshot.entries != copy.entries => {
            Some(format!("at revision {} it differs from its copy", copy.revision))
        }
        _ => None,
    }
}
