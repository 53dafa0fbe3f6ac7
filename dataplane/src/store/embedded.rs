//! The store of a single node: one file under its state directory, one process at a time.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::AbortHandle;

use super::{Entry, Leadership, LeaseId, Outcome, Range, Revision, Store, StoreError, Txn, WatchStream, Write};

mod file;
mod history;
mod leases;

use file::{Committed, File};
use history::History;
use leases::Leases;

/// A store in one file. Cloning it gives another handle to the same store.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
    _expiry: Arc<AbortOnDrop>,
}

struct Shared {
    file: File,
    /// Held from before a commit until its events are in the history, so that these come in order.
    commits: Mutex<()>,
    history: History,
    leases: Arc<Leases>,
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Embedded {
    /// Opens the file, or makes it. Must be called within a Tokio runtime, which then ends leases in time.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it open, [`StoreError::Corrupt`] when it is no
    /// store or a damaged one, [`StoreError::Io`] when it can't be opened or made.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path)?;
        let history = History::starting_at(file.revision()?);
        // Whoever held a lease could not keep it alive while nobody served: its time starts anew.
        let leases = Arc::new(Leases::new(file.leases()?));
        let shared = Arc::new(Shared { file, commits: Mutex::new(()), history, leases: Arc::clone(&leases) });
        let expiry = tokio::spawn(end_leases_in_time(leases, Arc::downgrade(&shared)));
        Ok(Self { shared, _expiry: Arc::new(AbortOnDrop(expiry.abort_handle())) })
    }

    /// Runs what touches the disk where blocking is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        blocking(&self.shared, work).await
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
    fn commit(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        refuse_double_writes(txn)?;
        self.committing(|| self.file.commit(txn))
    }

    fn end_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.committing(|| self.file.end_lease(lease)).map(drop)
    }

    fn committing(
        &self,
        commit: impl FnOnce() -> Result<Option<Committed>, StoreError>,
    ) -> Result<Outcome, StoreError> {
        let _order = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        match commit() {
            Ok(Some(Committed { revision, events })) => {
                self.history.push(revision, events);
                Ok(Outcome::Committed(revision))
            }
            Ok(None) => Ok(Outcome::Conflict),
            Err(error) => {
                // It may have reached the disk all the same; then watchers must read everything again.
                if let Ok(revision) = self.file.revision() {
                    self.history.restart_unless_at(revision);
                }
                Err(error)
            }
        }
    }
}

fn refuse_double_writes(txn: &Txn) -> Result<(), StoreError> {
    let mut seen = HashSet::new();
    match txn.then.iter().map(Write::key).find(|key| !seen.insert(*key)) {
        Some(key) => Err(StoreError::WrittenTwice { key: key.to_owned() }),
        None => Ok(()),
    }
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let key = key.to_owned();
        self.blocking(move |shared| shared.file.get(&key)).await
    }

    async fn range(&self, prefix: &str) -> Result<Range, StoreError> {
        let prefix = prefix.to_owned();
        self.blocking(move |shared| shared.file.range(&prefix)).await
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError> {
        self.blocking(move |shared| shared.commit(&txn)).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        Ok(self.shared.history.watch(prefix.to_owned(), after))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let lease = self.blocking(move |shared| shared.file.grant(ttl)).await?;
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
