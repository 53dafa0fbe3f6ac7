//! What was committed lately, for watches. It is not on disk: every watcher lives in this process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{self, StreamExt};
use tokio::sync::watch;

use crate::store::{Event, Revision, StoreError, WatchStream};

/// Events kept. A watcher further behind reads everything again, which is cheaper at that point.
const EVENTS_KEPT: usize = 65_536;
/// Octets of their keys and values: some values are whole Compose files. The newest commit is kept whatever its size.
const OCTETS_KEPT: usize = 1 << 20;

pub(super) struct History {
    ring: Arc<Mutex<Ring>>,
    /// Wakes watchers; closing it ends them.
    changed: watch::Sender<()>,
}

struct Ring {
    commits: VecDeque<(Revision, Vec<Event>)>,
    events: usize,
    octets: usize,
    /// The oldest revision after which nothing is missing.
    kept: Revision,
    newest: Revision,
}

impl Ring {
    fn starting_at(revision: Revision) -> Self {
        Self { commits: VecDeque::new(), events: 0, octets: 0, kept: revision, newest: revision }
    }
}

impl History {
    pub(super) fn starting_at(revision: Revision) -> Self {
        Self { ring: Arc::new(Mutex::new(Ring::starting_at(revision))), changed: watch::Sender::new(()) }
    }

    /// Adds a commit. One without events changed nothing and has no revision of its own.
    pub(super) fn push(&self, revision: Revision, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let mut ring = lock(&self.ring);
        ring.events += events.len();
        ring.octets += octets(&events);
        ring.newest = revision;
        ring.commits.push_back((revision, events));
        while ring.commits.len() > 1
            && (ring.events > EVENTS_KEPT || ring.octets > OCTETS_KEPT)
            && let Some((oldest, events)) = ring.commits.pop_front()
        {
            ring.events -= events.len();
            ring.octets -= octets(&events);
            ring.kept = oldest;
        }
        drop(ring);
        self.changed.send_replace(());
    }

    /// Forgets everything if `revision` is not the newest known: something was committed unseen.
    pub(super) fn restart_unless_at(&self, revision: Revision) {
        let mut ring = lock(&self.ring);
        if ring.newest != revision {
            *ring = Ring::starting_at(revision);
            drop(ring);
            self.changed.send_replace(());
        }
    }

    pub(super) fn watch(&self, prefix: String, after: Revision) -> WatchStream {
        let watcher = Watcher { ring: Arc::clone(&self.ring), changed: self.changed.subscribe(), prefix, after };
        stream::unfold(Some(watcher), |watcher| async {
            let mut watcher = watcher?;
            let item = watcher.next().await?;
            let goes_on = item.is_ok();
            Some((item, goes_on.then_some(watcher)))
        })
        .boxed()
    }
}

struct Watcher {
    ring: Arc<Mutex<Ring>>,
    changed: watch::Receiver<()>,
    prefix: String,
    after: Revision,
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<Vec<Event>, StoreError>> {
        loop {
            self.changed.mark_unchanged();
            match self.look() {
                Ok(None) => self.changed.changed().await.ok()?,
                found => return found.transpose(),
            }
        }
    }

    /// The next commit with events under the prefix. What is not under it counts as seen.
    fn look(&mut self) -> Result<Option<Vec<Event>>, StoreError> {
        let ring = lock(&self.ring);
        if self.after < ring.kept {
            return Err(StoreError::Compacted { after: self.after, kept: ring.kept });
        }
        let unseen = ring.commits.partition_point(|(revision, _)| *revision <= self.after);
        for (revision, events) in ring.commits.range(unseen..) {
            self.after = *revision;
            let matching: Vec<Event> = events.iter().filter(|e| e.key().starts_with(&self.prefix)).cloned().collect();
            if !matching.is_empty() {
                return Ok(Some(matching));
            }
        }
        Ok(None)
    }
}

fn octets(events: &[Event]) -> usize {
    let of = |event: &Event| match event {
        Event::Put(entry) => entry.key.len() + entry.value.len(),
        Event::Delete { key, .. } => key.len(),
    };
    events.iter().map(of).sum()
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Entry;

    fn event(revision: Revision) -> Vec<Event> {
        vec![Event::Delete { key: format!("/k/{revision}"), revision }]
    }

    #[tokio::test]
    async fn a_watcher_too_far_behind_is_told_and_ended() {
        let history = History::starting_at(0);
        let mut behind = history.watch("/".into(), 0);
        for revision in 1..=EVENTS_KEPT as Revision + 5 {
            history.push(revision, event(revision));
        }
        assert!(matches!(behind.next().await, Some(Err(StoreError::Compacted { after: 0, kept: 5 }))));
        assert!(behind.next().await.is_none());
        let mut close = history.watch("/".into(), 5);
        assert_eq!(close.next().await.unwrap().unwrap(), event(6));
    }

    #[tokio::test]
    async fn large_values_are_kept_by_their_size_and_the_newest_at_any() {
        let large = |revision, octets| {
            let value = vec![0; octets].into();
            vec![Event::Put(Entry { key: "/k".into(), value, revision, lease: None })]
        };
        let history = History::starting_at(0);
        for revision in 1..=9 {
            history.push(revision, large(revision, OCTETS_KEPT / 4));
        }
        assert!(lock(&history.ring).octets <= OCTETS_KEPT);
        let mut behind = history.watch("/".into(), 0);
        assert!(matches!(behind.next().await, Some(Err(StoreError::Compacted { after: 0, kept: 6 }))));
        let mut close = history.watch("/".into(), 9);
        history.push(10, large(10, 2 * OCTETS_KEPT));
        assert_eq!(close.next().await.unwrap().unwrap(), large(10, 2 * OCTETS_KEPT));
        history.push(11, event(11));
        assert_eq!(lock(&history.ring).commits.len(), 1);
    }

    #[tokio::test]
    async fn a_commit_nobody_saw_makes_watchers_read_again() {
        let history = History::starting_at(3);
        let mut watcher = history.watch("/".into(), 3);
        history.restart_unless_at(3);
        history.push(4, event(4));
        assert_eq!(watcher.next().await.unwrap().unwrap(), event(4));
        history.restart_unless_at(5);
        assert!(matches!(watcher.next().await, Some(Err(StoreError::Compacted { after: 4, kept: 5 }))));
    }
}
