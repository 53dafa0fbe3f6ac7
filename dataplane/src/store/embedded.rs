//! The store of a single node: one file under its state directory.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;

use super::{Entry, Leadership, LeaseId, Outcome, Range, Revision, Store, StoreError, Txn, WatchStream};

/// A store in one file.
#[derive(Debug, Clone)]
pub struct Embedded {}

impl Embedded {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it open, [`StoreError::Corrupt`] when it is no store.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let _ = path;
        unimplemented!()
    }
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, _key: &str) -> Result<Option<Entry>, StoreError> {
        unimplemented!()
    }
    async fn range(&self, _prefix: &str) -> Result<Range, StoreError> {
        unimplemented!()
    }
    async fn txn(&self, _txn: Txn) -> Result<Outcome, StoreError> {
        unimplemented!()
    }
    async fn watch(&self, _prefix: &str, _after: Revision) -> Result<WatchStream, StoreError> {
        unimplemented!()
    }
    async fn grant(&self, _ttl: Duration) -> Result<LeaseId, StoreError> {
        unimplemented!()
    }
    async fn keep_alive(&self, _lease: LeaseId) -> Result<(), StoreError> {
        unimplemented!()
    }
    async fn revoke(&self, _lease: LeaseId) -> Result<(), StoreError> {
        unimplemented!()
    }
    async fn campaign(&self, _election: &str, _candidate: &str) -> Result<Leadership, StoreError> {
        unimplemented!()
    }
}
