//! Pinned objects that this process also holds open: removing a pin then takes nothing away, and the pin is put back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, getrlimit};

use super::{BpfError, pins, sys};

/// Descriptors that are left to the rest of the daemon, of those that it may have.
const SHARE: u64 = 2;

/// What is held, by pin.
#[derive(Debug)]
pub(super) struct Keep {
    held: Mutex<BTreeMap<PathBuf, Held>>,
    /// So many, and no more: beyond, a pin is all that holds an object.
    capacity: usize,
}

#[derive(Debug)]
struct Held {
    object: OwnedFd,
    /// Of the pin: another one means another pin.
    inode: u64,
}

impl Keep {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self { held: Mutex::default(), capacity: usize::try_from(descriptors / SHARE).unwrap_or(usize::MAX) }
    }

    /// Asks the object behind `pin`: the one that is held, or else the one that is pinned, which is then held.
    /// `None` when there is neither.
    pub(super) fn ask<T>(
        &self,
        pin: &Path,
        question: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let mut held = self.lock();
        if let Some(known) = held.get(pin) {
            return question(known.object.as_fd()).map(Some);
        }
        let object = match sys::obj_get(pin, true) {
            Ok(object) => object,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let answer = question(object.as_fd())?;
        if held.len() < self.capacity {
            let inode = fs::symlink_metadata(pin)?.ino();
            held.insert(pin.to_owned(), Held { object, inode });
        }
        Ok(Some(answer))
    }

    /// Holds what is pinned there.
    pub(super) fn hold(&self, pin: &Path) -> io::Result<()> {
        self.ask(pin, |_| Ok(())).map(drop)
    }

    /// Pins an object, in place of whatever is pinned there, and holds it.
    pub(super) fn pin(&self, object: OwnedFd, pin: &Path) -> io::Result<()> {
        let mut held = self.lock();
        let inode = put(object.as_fd(), pin)?;
        if held.len() < self.capacity {
            held.insert(pin.to_owned(), Held { object, inode });
        }
        Ok(())
    }

    /// Holds it no more.
    pub(super) fn release(&self, pin: &Path) {
        self.lock().remove(pin);
    }

    /// What is held below this directory.
    pub(super) fn below(&self, directory: &Path) -> Vec<PathBuf> {
        self.lock().keys().filter(|pin| pin.starts_with(directory)).cloned().collect()
    }

    /// The pins that are gone, or are no longer the ones that were held. One look at each directory.
    pub(super) fn missing(&self) -> Result<BTreeSet<PathBuf>, BpfError> {
        let held = self.lock();
        let directories: BTreeSet<&Path> = held.keys().filter_map(|pin| pin.parent()).collect();
        let mut present = BTreeMap::new();
        for directory in directories {
            present.extend(inodes(directory)?);
        }
        let missing = held.iter().filter(|(pin, held)| present.get(*pin) != Some(&held.inode));
        Ok(missing.map(|(pin, _)| pin.clone()).collect())
    }

    /// Pins what is held under its name again.
    pub(super) fn restore(&self, pin: &Path) -> Result<(), BpfError> {
        if let Some(parent) = pin.parent() {
            pins::make_dir(parent)?;
        }
        let mut held = self.lock();
        let Some(known) = held.get_mut(pin) else { return Ok(()) };
        let failed = |source| BpfError::PinDirectory { operation: "pin again at", path: pin.to_owned(), source };
        known.inode = put(known.object.as_fd(), pin).map_err(failed)?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Held>> {
        // A panic while it is held leaves no half-written entry.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pins an object in place of whatever is there; returns the inode of the pin.
fn put(object: BorrowedFd<'_>, pin: &Path) -> io::Result<u64> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => sys::obj_pin(object, pin)?,
    }
    Ok(fs::symlink_metadata(pin)?.ino())
}

/// Every pin of a directory with its inode; none when it is not there.
fn inodes(directory: &Path) -> Result<Vec<(PathBuf, u64)>, BpfError> {
    let failed = |source| BpfError::PinDirectory { operation: "read", path: directory.to_owned(), source };
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|e| (e.path(), e.ino())).map_err(failed)).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}
