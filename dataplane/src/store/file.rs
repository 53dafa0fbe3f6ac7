//! The file itself: redb's tables, and its errors in our words. redb's types stay in here.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::durable::sync_directory;
use crate::space::Space;
use crate::store::snapshot::{Change, Record, Snapshot};
use crate::store::{LeaseId, StoreError, Write};

/// Key → (revision of its last put, lease or 0, value).
const ENTRIES: TableDefinition<'_, &str, (u64, u64, &[u8])> = TableDefinition::new("entries");
/// Lease → time to live in milliseconds.
const LEASES: TableDefinition<'_, u64, u64> = TableDefinition::new("leases");
/// Counters: see the names below.
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
const REVISION: &str = "revision";
const LAST_LEASE: &str = "lease";

/// What is read is read from memory; this is for the pages that a commit touches.
const CACHE_BYTES: usize = 1 << 20;

pub(super) struct File {
    path: PathBuf,
    /// [`None`] after an error: redb wants a database that met one closed, and opened again.
    database: Mutex<Option<Database>>,
}

impl File {
    /// Opens the file, which must be there, and reads all of it.
    pub(super) fn open(path: &Path) -> Result<(Self, Snapshot), StoreError> {
        let file = Self { path: path.to_owned(), database: Mutex::new(None) };
        file.verify()?;
        let snapshot = file.load()?;
        Ok((file, snapshot))
    }

    /// Makes a file of `snapshot` beside `path` and puts it in that place, whole or not at all.
    pub(super) fn create(path: &Path, snapshot: &Snapshot) -> Result<Self, StoreError> {
        let new = beside(path, "new");
        let failed = |source: io::Error| failure("write", path, source);
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
        let file = Self { path: new.clone(), database: Mutex::new(None) };
        let filled = file.fill(snapshot).and_then(|()| {
            std::fs::rename(&new, path).map_err(failed)?;
            sync_directory(path).map_err(failed)
        });
        if let Err(error) = filled {
            let _absent = std::fs::remove_file(&new);
            return Err(renamed(error, path));
        }
        Ok(Self { path: path.to_owned(), database: Mutex::new(file.lock().take()) })
    }

    /// Octets that the file takes.
    pub(super) fn length(&self) -> Result<u64, StoreError> {
        std::fs::metadata(&self.path).map(|meta| meta.len()).map_err(|source| failure("read", &self.path, source))
    }

    /// Checks every page, so that damage shows now and not in the middle of the work.
    fn verify(&self) -> Result<(), StoreError> {
        if !self.with_mut("read", |database| Ok(database.check_integrity()?))? {
            tracing::warn!(path = %self.path.display(), "Repaired the store; the very last change may be lost.");
        }
        Ok(())
    }

    /// Everything in it.
    pub(super) fn load(&self) -> Result<Snapshot, StoreError> {
        self.with("read", |database| {
            let txn = database.begin_read()?;
            let counters = txn.open_table(COUNTERS)?;
            let counter = |name| Ok::<_, redb::Error>(counters.get(name)?.map_or(0, |value| value.value()));
            let (revision, last_lease) = (counter(REVISION)?, counter(LAST_LEASE)?);
            let mut snapshot = Snapshot { revision, last_lease, ..Snapshot::default() };
            for item in txn.open_table(LEASES)?.iter()? {
                let (id, ttl) = item?;
                snapshot.leases.insert(LeaseId(id.value()), Duration::from_millis(ttl.value()));
            }
            for item in txn.open_table(ENTRIES)?.iter()? {
                let (key, record) = item?;
                let (revision, lease, value) = record.value();
                let lease = (lease != 0).then_some(LeaseId(lease));
                let record = Record { revision, lease, value: value.into() };
                snapshot.entries.insert(key.value().to_owned(), record);
            }
            Ok(snapshot)
        })
    }

    /// Makes changes, all or none; durable when this returns (redb syncs the file).
    pub(super) fn apply(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.with("write", |database| {
            let txn = database.begin_write()?;
            {
                let mut counters = txn.open_table(COUNTERS)?;
                let mut leases = txn.open_table(LEASES)?;
                let mut entries = txn.open_table(ENTRIES)?;
                for change in changes {
                    counters.insert(REVISION, change.revision)?;
                    if let Some((lease, ttl)) = change.granted {
                        counters.insert(LAST_LEASE, lease.0)?;
                        leases.insert(lease.0, millis(ttl))?;
                    }
                    if let Some(lease) = change.ended {
                        leases.remove(lease.0)?;
                    }
                    for write in &change.writes {
                        match write {
                            Write::Put { key, value, lease } => {
                                let lease = lease.map_or(0, |lease| lease.0);
                                entries.insert(key.as_str(), (change.revision, lease, &**value))?;
                            }
                            Write::Delete(key) => drop(entries.remove(key.as_str())?),
                        }
                    }
                }
            }
            Ok(txn.commit()?)
        })
    }

    /// Writes a whole snapshot into an empty file.
    fn fill(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.with("write", |database| {
            let txn = database.begin_write()?;
            {
                let mut counters = txn.open_table(COUNTERS)?;
                counters.insert(REVISION, snapshot.revision)?;
                counters.insert(LAST_LEASE, snapshot.last_lease)?;
                let mut leases = txn.open_table(LEASES)?;
                for (lease, ttl) in &snapshot.leases {
                    leases.insert(lease.0, millis(*ttl))?;
                }
                let mut entries = txn.open_table(ENTRIES)?;
                for (key, Record { revision, lease, value }) in &snapshot.entries {
                    entries.insert(key.as_str(), (*revision, lease.map_or(0, |lease| lease.0), &**value))?;
                }
            }
            Ok(txn.commit()?)
        })
    }

    fn with<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.with_mut(operation, |database| work(database))
    }

    fn with_mut<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let mut slot = self.lock();
        let mut database = match slot.take() {
            Some(database) => database,
            None => quiet(|| open_database(&self.path)).map_err(|e| self.explain("open", e))?,
        };
        match quiet(|| work(&mut database)) {
            Ok(done) => {
                *slot = Some(database);
                Ok(done)
            }
            Err(error) => {
                if let Err(Failure::Panic(detail)) = close(database) {
                    tracing::warn!(path = %self.path.display(), detail, "The store was damaged when it was closed.");
                }
                Err(self.explain(operation, error))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Database>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn explain(&self, operation: &'static str, failed: Failure) -> StoreError {
        let path = self.path.clone();
        let error = match failed {
            Failure::Panic(detail) => return StoreError::Corrupt { path, detail },
            Failure::Redb(error) => error,
        };
        match error {
            redb::Error::DatabaseAlreadyOpen => StoreError::InUse { path },
            redb::Error::Io(source) => failure(operation, &path, source),
            redb::Error::PreviousIo => StoreError::Io { operation, path, source: io::Error::other(error) },
            damage => StoreError::Corrupt { path, detail: damage.to_string() },
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _damaged = self.lock().take().map(close);
    }
}

/// What the kernel says of a file, in our words.
pub(super) fn failure(operation: &'static str, path: &Path, source: io::Error) -> StoreError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            let space = Space::of(path.parent().unwrap_or(&path));
            let usage = space.map_or_else(|error| format!("how full it is, nobody tells: {error}"), |s| s.to_string());
            StoreError::Full { usage, path, source }
        }
        io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { path, source },
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            StoreError::Corrupt { path, detail: source.to_string() }
        }
        _ => StoreError::Io { operation, path, source },
    }
}

/// `store.redb` and `copy`: `store.redb.copy`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

/// Keeps what is at `path` under another name beside it, which this gives; [`None`] if nothing is there, or if so many
/// have been kept already that one more would tell nobody anything.
pub(super) fn keep_aside(path: &Path) -> Result<Option<PathBuf>, StoreError> {
    let aside = (1..=9).map(|n| beside(path, &format!("kept.{n}"))).find(|aside| !aside.exists());
    let Some(aside) = aside else { return Ok(None) };
    // A second name, so that the first one is never missing.
    match std::fs::hard_link(path, &aside) {
        Ok(()) => Ok(Some(aside)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failure("keep", path, error)),
    }
}

/// People know the store's file, not the one that was to take its place.
fn renamed(error: StoreError, place: &Path) -> StoreError {
    let path = place.to_owned();
    match error {
        StoreError::Full { usage, source, .. } => StoreError::Full { usage, path, source },
        StoreError::ReadOnly { source, .. } => StoreError::ReadOnly { path, source },
        StoreError::Io { operation, source, .. } => StoreError::Io { operation, path, source },
        other => other,
    }
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

/// Never makes one: where a mount is missing, there is no store, rather than an empty one.
fn open_database(path: &Path) -> Result<Database, redb::Error> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    Ok(builder.create_file(file)?)
}

fn close(database: Database) -> Result<(), Failure> {
    quiet(|| {
        drop(database);
        Ok(())
    })
}

enum Failure {
    Redb(redb::Error),
    Panic(String),
}

thread_local! {
    /// Whether a panic of this thread is caught and told in other words.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// redb panics on some kinds of damage instead of reporting it: an error like any other, without a word on standard
/// error.
fn quiet<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Failure> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !CAUGHT.get() {
                others(panic);
            }
        }));
    });
    let before = CAUGHT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(before);
    match result {
        Ok(result) => result.map_err(Failure::Redb),
        Err(panic) => {
            let text =
                panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            Err(Failure::Panic(text.unwrap_or("its pages contradict each other").replace('\n', " ")))
        }
    }
}
