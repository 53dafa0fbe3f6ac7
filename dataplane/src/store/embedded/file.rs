//! The file itself: redb's tables, and its errors in our words. redb's types stay in here.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::store::{Compare, Entry, Event, LeaseId, Range, Revision, StoreError, Txn, Write};

/// Key → (revision of its last put, lease or 0, value).
const ENTRIES: TableDefinition<'_, &str, (u64, u64, &[u8])> = TableDefinition::new("entries");
/// Lease → time to live in milliseconds.
const LEASES: TableDefinition<'_, u64, u64> = TableDefinition::new("leases");
/// Counters: see the names below.
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
const REVISION: &str = "revision";
const LAST_LEASE: &str = "lease";

/// The store is small; most of it is read once at start.
const CACHE_BYTES: usize = 16 << 20;

type Value = (u64, u64, &'static [u8]);

/// A transaction that is on disk.
pub(super) struct Committed {
    /// The store's revision now.
    pub(super) revision: Revision,
    /// What it changed; empty if nothing.
    pub(super) events: Vec<Event>,
}

pub(super) struct File {
    path: PathBuf,
    /// [`None`] after an I/O error: redb wants a database that met one closed, and opened again.
    database: RwLock<Option<Database>>,
}

impl File {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = Self { path: path.to_owned(), database: RwLock::new(None) };
        if file.read(|txn| Ok(txn.list_tables()?.next().is_none()))? {
            file.write(|txn| {
                txn.open_table(ENTRIES)?;
                txn.open_table(LEASES)?;
                txn.open_table(COUNTERS)?;
                Ok(Some(()))
            })?;
        }
        file.verify()?;
        Ok(file)
    }

    /// Reads everything once, so that damage shows now and not in the middle of the work.
    fn verify(&self) -> Result<(), StoreError> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = slot.as_mut() else { return Ok(()) };
        let result = catch_unwind(AssertUnwindSafe(|| database.check_integrity()));
        drop(slot);
        match result {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => {
                tracing::warn!(path = %self.path.display(), "Repaired the store; the very last change may be lost.");
                Ok(())
            }
            Ok(Err(error)) => Err(self.explain("read", error.into())),
            Err(panic) => Err(self.damaged(&*panic)),
        }
    }

    pub(super) fn revision(&self) -> Result<Revision, StoreError> {
        self.read(|txn| counter(&txn.open_table(COUNTERS)?, REVISION))
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.read(|txn| Ok(txn.open_table(ENTRIES)?.get(key)?.map(|value| entry(key, value.value()))))
    }

    pub(super) fn range(&self, prefix: &str) -> Result<Range, StoreError> {
        self.read(|txn| {
            let mut entries = Vec::new();
            for item in txn.open_table(ENTRIES)?.range(prefix..)? {
                let (key, value) = item?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                entries.push(entry(key.value(), value.value()));
            }
            Ok(Range { revision: counter(&txn.open_table(COUNTERS)?, REVISION)?, entries })
        })
    }

    /// [`None`]: a condition did not hold.
    pub(super) fn commit(&self, txn: &Txn) -> Result<Option<Committed>, StoreError> {
        if let Some(lease) = self.missing_lease(txn)? {
            return Err(StoreError::LeaseEnded { lease });
        }
        self.write(|file| {
            let entries = file.open_table(ENTRIES)?;
            for condition in &txn.compare {
                if !holds(&entries, condition)? {
                    return Ok(None);
                }
            }
            apply(file, entries, &txn.then).map(Some)
        })
    }

    /// Removes a lease and its keys.
    pub(super) fn end_lease(&self, lease: LeaseId) -> Result<Option<Committed>, StoreError> {
        self.write(|file| {
            file.open_table(LEASES)?.remove(lease.0)?;
            let entries = file.open_table(ENTRIES)?;
            let mut deletes = Vec::new();
            for item in entries.iter()? {
                let (key, value) = item?;
                if value.value().1 == lease.0 {
                    deletes.push(Write::Delete(key.value().to_owned()));
                }
            }
            apply(file, entries, &deletes).map(Some)
        })
    }

    pub(super) fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let lease = self.write(|file| {
            let mut counters = file.open_table(COUNTERS)?;
            let lease = counter(&counters, LAST_LEASE)? + 1;
            counters.insert(LAST_LEASE, lease)?;
            let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            file.open_table(LEASES)?.insert(lease, millis)?;
            Ok(Some(LeaseId(lease)))
        })?;
        Ok(lease.unwrap_or(LeaseId(0)))
    }

    pub(super) fn leases(&self) -> Result<Vec<(LeaseId, Duration)>, StoreError> {
        self.read(|txn| {
            let table = txn.open_table(LEASES)?;
            let leases = table.iter()?.map(|item| {
                let (id, ttl) = item?;
                Ok((LeaseId(id.value()), Duration::from_millis(ttl.value())))
            });
            leases.collect()
        })
    }

    fn missing_lease(&self, txn: &Txn) -> Result<Option<LeaseId>, StoreError> {
        let wanted = txn.then.iter().filter_map(|write| match write {
            Write::Put { lease, .. } => *lease,
            Write::Delete(_) => None,
        });
        let wanted: Vec<LeaseId> = wanted.collect();
        if wanted.is_empty() {
            return Ok(None);
        }
        self.read(|file| {
            let leases = file.open_table(LEASES)?;
            for lease in wanted {
                if leases.get(lease.0)?.is_none() {
                    return Ok(Some(lease));
                }
            }
            Ok(None)
        })
    }

    fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        self.with("read", |database| work(&database.begin_read()?))
    }

    /// Commits what `work` did (durably: redb syncs the file), or nothing if it returns [`None`] or an error.
    fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<Option<T>, redb::Error>,
    ) -> Result<Option<T>, StoreError> {
        self.with("write", |database| {
            let txn = database.begin_write()?;
            let done = work(&txn)?;
            match done {
                Some(_) => txn.commit()?,
                None => txn.abort()?,
            }
            Ok(done)
        })
    }

    fn with<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.ensure_open()?;
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = guard.as_ref() else {
            let source = io::Error::other("an earlier error closed it; try again");
            return Err(StoreError::Io { operation, path: self.path.clone(), source });
        };
        // redb panics on some kinds of damage instead of reporting it.
        let result = catch_unwind(AssertUnwindSafe(|| work(database)));
        drop(guard);
        match result {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo) {
                    self.close();
                }
                Err(self.explain(operation, error))
            }
            Err(panic) => {
                self.close();
                Err(self.damaged(&*panic))
            }
        }
    }

    fn ensure_open(&self) -> Result<(), StoreError> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if slot.is_some() {
            return Ok(());
        }
        match catch_unwind(|| open_database(&self.path)) {
            Ok(Ok(database)) => *slot = Some(database),
            Ok(Err(error)) => return Err(self.explain("open", error)),
            Err(panic) => return Err(self.damaged(&*panic)),
        }
        Ok(())
    }

    fn close(&self) {
        let database = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
            tracing::warn!(path = %self.path.display(), "The store was damaged when it was closed.");
        }
    }

    fn damaged(&self, panic: &(dyn std::any::Any + Send)) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), detail: panic_message(panic) }
    }

    fn explain(&self, operation: &'static str, error: redb::Error) -> StoreError {
        let path = self.path.clone();
        match error {
            redb::Error::DatabaseAlreadyOpen => StoreError::InUse { path },
            redb::Error::Io(source) => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path, source },
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                    StoreError::Corrupt { path, detail: source.to_string() }
                }
                _ => StoreError::Io { operation, path, source },
            },
            redb::Error::PreviousIo => StoreError::Io { operation, path, source: io::Error::other(error) },
            damage => StoreError::Corrupt { path, detail: damage.to_string() },
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.close();
    }
}

/// Variables of services are in it, so nobody else may read it.
fn open_database(path: &Path) -> Result<Database, redb::Error> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    Ok(builder.create_file(file)?)
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("its pages contradict each other").replace('\n', " ")
}

fn entry(key: &str, (revision, lease, value): (u64, u64, &[u8])) -> Entry {
    Entry { key: key.to_owned(), value: value.to_vec(), revision, lease: (lease != 0).then_some(LeaseId(lease)) }
}

fn counter(counters: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, redb::Error> {
    Ok(counters.get(name)?.map_or(0, |value| value.value()))
}

fn holds(entries: &impl ReadableTable<&'static str, Value>, condition: &Compare) -> Result<bool, redb::Error> {
    Ok(match condition {
        Compare::Absent(key) => entries.get(key.as_str())?.is_none(),
        Compare::Revision(key, revision) => entries.get(key.as_str())?.is_some_and(|e| e.value().0 == *revision),
        Compare::Value(key, value) => entries.get(key.as_str())?.is_some_and(|e| e.value().2 == value),
    })
}

fn apply(
    file: &WriteTransaction,
    mut entries: Table<'_, &'static str, Value>,
    writes: &[Write],
) -> Result<Committed, redb::Error> {
    let mut counters = file.open_table(COUNTERS)?;
    let revision = counter(&counters, REVISION)?;
    let next = revision + 1;
    let mut events = Vec::with_capacity(writes.len());
    for write in writes {
        match write {
            Write::Put { key, value, lease } => {
                let lease_id = lease.map_or(0, |lease| lease.0);
                entries.insert(key.as_str(), (next, lease_id, value.as_slice()))?;
                let (key, value, lease) = (key.clone(), value.clone(), *lease);
                events.push(Event::Put(Entry { key, value, revision: next, lease }));
            }
            Write::Delete(key) => {
                if entries.remove(key.as_str())?.is_some() {
                    events.push(Event::Delete { key: key.clone(), revision: next });
                }
            }
        }
    }
    if events.is_empty() {
        return Ok(Committed { revision, events });
    }
    counters.insert(REVISION, next)?;
    Ok(Committed { revision: next, events })
}
