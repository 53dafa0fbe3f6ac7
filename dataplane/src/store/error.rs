//! What can go wrong with a store, and the way out.

use std::io;
use std::path::PathBuf;

use super::{LeaseId, Revision};

/// A store that cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the file's lock.
    #[error(
        "the store {} is in use by another skepd: stop that one, or give this one its own --state-dir",
        path.display()
    )]
    InUse {
        /// The store's file.
        path: PathBuf,
    },
    /// The file holds something else, or damaged content.
    #[error(
        "the store {} is damaged ({detail}): put back a backup of it, or move it away to start empty",
        path.display()
    )]
    Corrupt {
        /// The store's file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// No space, or over quota.
    #[error("no space left for the store {}: the change was refused, free some space on that file system", path.display())]
    Full {
        /// The store's file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Any other failure of the file.
    #[error("cannot {operation} the store {}: {source}; is its directory there, and is this root?", path.display())]
    Io {
        /// `open`, `read`, `write`.
        operation: &'static str,
        /// The store's file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A watch asked for events that are no longer kept.
    #[error("the history after revision {after} is gone (kept from {kept} on): read everything again")]
    Compacted {
        /// What the watch had seen.
        after: Revision,
        /// The oldest revision that a watch may still start after.
        kept: Revision,
    },
    /// A lease that has ended or never was.
    #[error("lease {} has ended: grant a new one and put its keys again", lease.0)]
    LeaseEnded {
        /// Which.
        lease: LeaseId,
    },
    /// One transaction wrote a key twice.
    #[error("the transaction writes {key} twice")]
    WrittenTwice {
        /// Which.
        key: String,
    },
    /// A value that is not what its key promises.
    #[error("the value of {key} in the store cannot be read ({source}): was it written by a newer skepd?")]
    Value {
        /// Which.
        key: String,
        /// What the decoder said.
        #[source]
        source: serde_json::Error,
    },
    /// A key under one of our prefixes that no schema makes.
    #[error("the key {key} in the store is not one of this skepd's: was it written by a newer one?")]
    Key {
        /// Which.
        key: String,
    },
}
