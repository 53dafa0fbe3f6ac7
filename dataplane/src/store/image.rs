//! A store as it is in memory: what is read, and what watches are told.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::history::History;
use super::snapshot::{Change, Snapshot};
use super::{Entry, Range, Revision, WatchStream};

/// The newest snapshot that is known, and how it came to be.
pub(super) struct Image {
    snapshot: RwLock<Snapshot>,
    history: History,
}

impl Image {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        Self { history: History::starting_at(snapshot.revision), snapshot: RwLock::new(snapshot) }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Snapshot> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: &str) -> Option<Entry> {
        self.read().get(key)
    }

    pub(super) fn range(&self, prefix: &str) -> Range {
        let snapshot = self.read();
        Range { revision: snapshot.revision, entries: snapshot.range(prefix) }
    }

    pub(super) fn watch(&self, prefix: &str, after: Revision) -> WatchStream {
        self.history.watch(prefix.to_owned(), after)
    }

    /// Takes a change in and tells of it. Changes come one after the other, in the order of their revisions.
    pub(super) fn apply(&self, change: Change) {
        let revision = change.revision;
        let events = self.snapshot.write().unwrap_or_else(PoisonError::into_inner).apply(change);
        self.history.push(revision, events);
    }

    /// Takes what was read anew. Whoever watches reads again, unless nothing has happened unseen.
    pub(super) fn replace(&self, snapshot: Snapshot) {
        let revision = snapshot.revision;
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.history.restart_unless_at(revision);
    }
}
