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
    /// The file holds something else, damaged content, or less than its copies.
    #[error(
        "the store {} is damaged ({detail}); nothing was touched, and what runs goes on: \
        `skepd repair` with the same options puts its last good copy back", path.display()
    )]
    Corrupt {
        /// The store's file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// etcd knows this node no more.
    #[error(
        "etcd does not let this node in ({source}): if it was removed from the cluster, `skepd uninstall --purge` it, and \
        have it join again with a token of `skepctl nodes invite`; what runs goes on"
    )]
    NotAdmitted {
        /// What etcd said.
        #[source]
        source: Box<etcd_client::Error>,
    },
    /// Something is where nothing should be.
    #[error(
        "etcd holds {keys} key(s) under this prefix: give another --etcd-prefix, or remove them (`etcdctl del --prefix`)"
    )]
    Occupied {
        /// How many.
        keys: usize,
    },
    /// There is none.
    #[error("there is no store at {}: give the --state-dir of a skepd that has run", path.display())]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// No space or no inode left, or over quota.
    #[error("the store {} cannot be written ({source}; {usage}): make room on that file system", path.display())]
    Full {
        /// The store's file.
        path: PathBuf,
        /// How full its file system is.
        usage: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The file system was mounted read-only, or made so by the kernel after an error of the disk.
    #[error(
        "the store {} cannot be written ({source}): see dmesg for the reason, then mount that file system anew",
        path.display()
    )]
    ReadOnly {
        /// The store's file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Any other failure of the file.
    #[error("cannot {operation} the store {}: {source}; is its directory there, and is this root?", path.display())]
    Io {
        /// `open`, `read`, `write`, `copy`, `keep`.
        operation: &'static str,
        /// The store's file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// etcd does not answer, or does not do what was asked.
    #[error("cannot {operation} etcd ({source}); what runs goes on, changes have to wait until it is back")]
    Etcd {
        /// `connect to`, `read from`, `write to`.
        operation: &'static str,
        /// What its client said.
        #[source]
        source: Box<etcd_client::Error>,
    },
    /// etcd's database has reached its quota.
    #[error(
        "etcd takes no changes, it is full ({source}): make room on each of its members (`etcdctl compact` and `etcdctl \
        defrag`, or a larger `--quota-backend-bytes`), then `etcdctl alarm disarm`; what runs goes on"
    )]
    EtcdFull {
        /// What its client said.
        #[source]
        source: Box<etcd_client::Error>,
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
