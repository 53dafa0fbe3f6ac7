//! Where intent, assignments and status live: keys and values with revisions, in etcd's shape
//! (transactions with compares, watches from a revision, leases, campaigns).
//!
//! The three roles of a daemon meet only here. [`embedded`] keeps it all in one file on this machine, [`etcd`] where
//! several machines share it, read through each one's [`mirror`]; no caller asks which implementation it talks to.
//! [`schema`] is the one place where keys are made.

use std::collections::HashSet;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

pub mod embedded;
mod error;
pub mod etcd;
mod file;
mod history;
mod image;
pub mod mirror;
pub mod schema;
pub mod seal;
pub mod snapshot;
mod value;

pub use embedded::{Copied, Embedded};
pub use error::StoreError;
pub use etcd::Etcd;
pub use etcd_client::{Certificate, ConnectOptions, Identity as TlsIdentity, TlsOptions};
pub use mirror::Mirror;
pub use seal::{CLUSTER_KEY_FILE, ClusterKey, ClusterKeyError, Sealed, SealedError};
pub use snapshot::{Snapshot, SnapshotError};
pub use value::Value;

/// Counts the committed transactions that changed something; 0 is the empty store.
pub type Revision = u64;

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// What the last put wrote.
    pub value: Value,
    /// Revision of the last put.
    pub revision: Revision,
    /// The lease that the key dies with.
    pub lease: Option<LeaseId>,
}

/// All keys under a prefix, as they were at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The store's revision at that moment: watch from here to miss nothing.
    pub revision: Revision,
    /// In the order of their keys.
    pub entries: Vec<Entry>,
}

/// A condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The key was last put at this revision.
    Revision(String, Revision),
    /// There is no such key.
    Absent(String),
    /// The key has this value.
    Value(String, Value),
}

impl Compare {
    /// The key it looks at.
    pub fn key(&self) -> &str {
        match self {
            Self::Revision(key, _) | Self::Absent(key) | Self::Value(key, _) => key,
        }
    }
}

/// A change of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets a key's value, and ties the key to a lease or to none.
    Put {
        /// Which.
        key: String,
        /// To what.
        value: Value,
        /// The key dies with it.
        lease: Option<LeaseId>,
    },
    /// Removes a key; one that is not there is no error.
    Delete(String),
}

impl Write {
    /// The key it touches.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete(key) => key,
        }
    }

    /// The lease that it ties its key to.
    pub fn lease(&self) -> Option<LeaseId> {
        match self {
            Self::Put { lease, .. } => *lease,
            Self::Delete(_) => None,
        }
    }
}

/// Changes that happen together, if every condition holds, or not at all. No key is written twice in one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compare: Vec<Compare>,
    /// Done if they do.
    pub then: Vec<Write>,
}

impl Txn {
    /// What no store would take.
    fn check(&self) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        match self.then.iter().map(Write::key).find(|key| !seen.insert(*key)) {
            Some(key) => Err(StoreError::WrittenTwice { key: key.to_owned() }),
            None => Ok(()),
        }
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its changes are on disk, under this revision.
    Committed(Revision),
    /// A condition did not hold; nothing changed.
    Conflict,
}

/// What happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was set.
    Put(Entry),
    /// It is gone: deleted, or its lease ended.
    Delete {
        /// Which.
        key: String,
        /// When.
        revision: Revision,
    },
}

impl Event {
    /// The key it is about.
    pub fn key(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// The revision that brought it.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put(entry) => entry.revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

/// The events of one revision at a time, never split. After an error it ends.
pub type WatchStream = BoxStream<'static, Result<Vec<Event>, StoreError>>;

/// Names a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// A won campaign. Put [`Leadership::compare`] in each transaction that only the leader may make:
/// one who was replaced without knowing then fails instead of writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    /// The key that names the leader.
    pub key: String,
    /// When this candidate won.
    pub revision: Revision,
}

impl Leadership {
    /// Holds as long as this candidate leads.
    pub fn compare(&self) -> Compare {
        Compare::Revision(self.key.clone(), self.revision)
    }
}

/// A store. Every call is safe to cancel: a transaction then either happened or did not.
#[async_trait]
pub trait Store: Send + Sync {
    /// One key.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Every key that starts with `prefix` (with `""`: every key).
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn range(&self, prefix: &str) -> Result<Range, StoreError>;

    /// Makes the changes if the conditions hold. Once it returns they are durable and visible to everyone.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written. Should it have happened all the same, watches tell.
    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError>;

    /// Everything that happens to keys under `prefix` *after* revision `after`, in order, without a gap.
    /// To resume a watch, pass the revision of the last event seen.
    ///
    /// # Errors
    /// The stream brings [`StoreError::Compacted`] when that history is no longer kept: read everything
    /// with [`Store::range`] and watch from its revision.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError>;

    /// A lease that ends `ttl` after its last keep-alive; the keys tied to it go with it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    async fn grant(&self, ttl: std::time::Duration) -> Result<LeaseId, StoreError>;

    /// Starts the lease's time again.
    ///
    /// # Errors
    /// [`StoreError::LeaseEnded`] when it has ended.
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends a lease now. One that has ended is no error.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Returns once `candidate` leads `election`.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    async fn campaign(&self, election: &str, candidate: &str) -> Result<Leadership, StoreError>;
}
