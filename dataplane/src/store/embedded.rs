//! The store of a single node: one file under its state directory, one process at a time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLockReadGuard, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::file::{self, File};
use super::image::Image;
use super::snapshot::{Change, Snapshot};
use super::{Entry, Leadership, LeaseId, Outcome, Range, Revision, Store, StoreError, Txn, WatchStream, Write};
use crate::task::Task;

mod copies;
mod leases;
mod upkeep;

pub use copies::Copied;
use leases::Leases;

/// A store in one file. Cloning it gives another handle to the same store.
///
/// All of it is in memory too: reading goes on whatever happens to the file system, and a file that is found damaged
/// is written anew.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
    _tasks: Arc<[Task; 2]>,
}

struct Shared {
    path: PathBuf,
    file: Mutex<File>,
    image: Image,
    /// Held from before a commit until its events are in the history, so that these come in order. False: the last
    /// commit failed, and whether it is in the file is not known yet.
    commits: Mutex<bool>,
    leases: Arc<Leases>,
    /// Tells the upkeep of each commit.
    changed: Arc<Notify>,
}

impl Embedded {
    /// Opens the file, or makes it. Must be called within a Tokio runtime, which then ends leases in time.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it open, [`StoreError::Corrupt`] when it is no
    /// store, a damaged one, or not the one that its copies are of, [`StoreError::Io`] and the like when it can't be
    /// opened or made.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let (file, image) = open(path)?;
        // Whoever held a lease could not keep it alive while nobody served: its time starts anew.
        let leases = Arc::new(Leases::new(image.leases.iter().map(|(id, ttl)| (*id, *ttl)).collect()));
        let changed = Arc::new(Notify::new());
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            file: Mutex::new(file),
            image: Image::new(image),
            commits: Mutex::new(true),
            leases: Arc::clone(&leases),
            changed: Arc::clone(&changed),
        });
        let expiry = Task::spawn(end_leases_in_time(leases, Arc::downgrade(&shared)));
        changed.notify_one();
        let upkeep = Task::spawn(upkeep::run(changed, Arc::downgrade(&shared)));
        Ok(Self { shared, _tasks: Arc::new([expiry, upkeep]) })
    }

    /// Reads a store that nobody has open, without changing what it holds.
    ///
    /// # Errors
    /// As [`Self::open`]; [`StoreError::Missing`] when there is none.
    pub fn read(path: &Path) -> Result<Snapshot, StoreError> {
        match open_existing(path)? {
            Some((_, snapshot)) => Ok(snapshot),
            None => Err(StoreError::Missing { path: path.to_owned() }),
        }
    }

    /// Makes `snapshot` the store, whole or not at all; what was in its place is kept as the file that this gives.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it open, [`StoreError::Io`] and the like when it can't be
    /// written.
    pub fn replace(path: &Path, snapshot: &Snapshot) -> Result<Option<PathBuf>, StoreError> {
        // Opening it locks it; one that is too damaged to be opened is nobody's.
        let _lock = match File::open(path) {
            Err(error @ StoreError::InUse { .. }) => return Err(error),
            other => other.ok(),
        };
        let kept = file::keep_aside(path)?;
        if let Err(error) = File::create(path, snapshot) {
            if let Some(kept) = kept {
                let _absent = std::fs::remove_file(kept);
            }
            return Err(error);
        }
        Ok(kept)
    }

    /// Its copies, newest first.
    pub fn copies(path: &Path) -> Vec<Copied> {
        copies::all(path)
    }

    /// Runs what touches the disk where blocking is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        blocking(&self.shared, work).await
    }
}

fn open(path: &Path) -> Result<(File, Snapshot), StoreError> {
    if let Some((file, snapshot)) = open_existing(path)? {
        if upkeep::is_bloated(file.length()?, snapshot.size()) {
            match File::create(path, &snapshot) {
                Ok(smaller) => return Ok((smaller, snapshot)),
                Err(error) => tracing::warn!(%error, "The store cannot be made smaller."),
            }
        }
        return Ok((file, snapshot));
    }
    let snapshot = Snapshot::default();
    let file = File::create(path, &snapshot)?;
    copies::write(path, &snapshot)?;
    Ok((file, snapshot))
}

/// [`None`]: there is none, and never was one.
fn open_existing(path: &Path) -> Result<Option<(File, Snapshot)>, StoreError> {
    let corrupt = |detail: String| StoreError::Corrupt { path: path.to_owned(), detail };
    let copy = copies::newest(path);
    let absent = match std::fs::metadata(path) {
        Ok(meta) if meta.len() == 0 => Some("empty"),
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some("gone"),
        Err(error) => return Err(file::failure("open", path, error)),
    };
    match (absent, &copy) {
        (Some(_), None) if copies::all(path).is_empty() => return Ok(None),
        (Some(how), _) => return Err(corrupt(format!("it is {how}, but its copy is there"))),
        (None, _) => {}
    }
    let (file, snapshot) = File::open(path)?;
    match copy.and_then(|copy| copies::contradiction(&snapshot, &copy)) {
        Some(detail) => Err(corrupt(detail)),
        None => Ok(Some((file, snapshot))),
    }
}

async fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let shared = Arc::clone(shared);
    match tokio::task::spawn_blocking(move || work(&shared)).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime shuts down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Holds the store only while it ends a lease, so that the file is closed with its last handle.
async fn end_leases_in_time(leases: Arc<Leases>, shared: Weak<Shared>) {
    loop {
        let lease = leases.next_ended().await;
        let Some(shared) = shared.upgrade() else { return };
        if let Err(error) = blocking(&shared, move |shared| shared.end_lease(lease)).await {
            tracing::warn!(lease = lease.0, %error, "Could not end a lease; its keys stay until the next start.");
        }
    }
}

impl Shared {
    fn image(&self) -> RwLockReadGuard<'_, Snapshot> {
        self.image.read()
    }

    fn file(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        txn.check()?;
        self.committing(|image| {
            let wanted = txn.then.iter().filter_map(|write| match write {
                Write::Put { lease, .. } => *lease,
                Write::Delete(_) => None,
            });
            if let Some(lease) = wanted.into_iter().find(|lease| !image.leases.contains_key(lease)) {
                return Err(StoreError::LeaseEnded { lease });
            }
            Ok(txn.compare.iter().all(|condition| image.holds(condition)).then(|| image.change(&txn.then)))
        })
    }

    fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let mut granted = LeaseId(0);
        self.committing(|image| {
            granted = LeaseId(image.last_lease + 1);
            Ok(Some(Change { granted: Some((granted, ttl)), ..image.change(&[]) }))
        })?;
        Ok(granted)
    }

    fn end_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        let end = |image: &Snapshot| {
            let tied = image.entries.iter().filter(|(_, record)| record.lease == Some(lease));
            let deletes: Vec<Write> = tied.map(|(key, _)| Write::Delete(key.clone())).collect();
            let ended = image.leases.contains_key(&lease).then_some(lease);
            Change { ended, ..image.change(&deletes) }
        };
        self.committing(|image| Ok(Some(end(image)))).map(drop)
    }

    /// Makes the change that `decide` finds right, in the file and then in memory; [`None`] is a conflict.
    fn committing(
        &self,
        decide: impl FnOnce(&Snapshot) -> Result<Option<Change>, StoreError>,
    ) -> Result<Outcome, StoreError> {
        let mut known = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        if !*known {
            self.reload()?;
            *known = true;
        }
        let Some(change) = decide(&self.image())? else { return Ok(Outcome::Conflict) };
        let revision = change.revision;
        if change.is_empty() {
            return Ok(Outcome::Committed(revision));
        }
        let mut written = self.file().apply(std::slice::from_ref(&change));
        if let Err(StoreError::Corrupt { detail, .. }) = &written {
            self.mend(detail)?;
            written = self.file().apply(std::slice::from_ref(&change));
        }
        if let Err(error) = written {
            // It may have reached the disk all the same; then watchers must read everything again.
            *known = self.reload().is_ok();
            return Err(error);
        }
        self.image.apply(change);
        self.changed.notify_one();
        Ok(Outcome::Committed(revision))
    }

    /// Reads the file again after a failure.
    fn reload(&self) -> Result<(), StoreError> {
        let found = self.file().load()?;
        let damage = copies::contradiction(&found, &self.image());
        if let Some(detail) = damage {
            return self.mend(&detail);
        }
        self.image.replace(found);
        Ok(())
    }

    /// Writes a damaged file anew, out of memory.
    fn mend(&self, detail: &str) -> Result<(), StoreError> {
        let kept = file::keep_aside(&self.path)?;
        let new = File::create(&self.path, &self.image())?;
        *self.file() = new;
        let kept = kept.unwrap_or_default();
        tracing::error!(
            path = %self.path.display(), damage = detail, kept = %kept.display(),
            "The store's file was damaged; wrote it anew out of memory. Check the disk."
        );
        Ok(())
    }

    /// Writes the file anew, as small as it can be.
    fn compact(&self) -> Result<(), StoreError> {
        let known = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        if !*known {
            return Ok(());
        }
        let before = self.file().length()?;
        let new = File::create(&self.path, &self.image())?;
        *self.file() = new;
        let after = self.file().length()?;
        tracing::info!(before, after, "Compacted the store.");
        Ok(())
    }
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.shared.image.get(key))
    }

    async fn range(&self, prefix: &str) -> Result<Range, StoreError> {
        Ok(self.shared.image.range(prefix))
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError> {
        self.blocking(move |shared| shared.commit(&txn)).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        Ok(self.shared.image.watch(prefix, after))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let lease = self.blocking(move |shared| shared.grant(ttl)).await?;
        self.shared.leases.start(lease, ttl);
        Ok(lease)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        if self.shared.leases.restart(lease) { Ok(()) } else { Err(StoreError::LeaseEnded { lease }) }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.shared.leases.forget(lease);
        self.blocking(move |shared| shared.end_lease(lease)).await
    }

    /// The file's lock has decided already: whoever has the store open leads.
    async fn campaign(&self, election: &str, candidate: &str) -> Result<Leadership, StoreError> {
        let key = format!("/elections/{election}");
        let put = Write::Put { key: key.clone(), value: candidate.into(), lease: None };
        match self.txn(Txn { compare: Vec::new(), then: vec![put] }).await? {
            Outcome::Committed(revision) => Ok(Leadership { key, revision }),
            Outcome::Conflict => unreachable!("the transaction has no condition"),
        }
    }
}

#[cfg(test)]
mod tests;
