//! A shared store as one node has it: read from memory, changed where it is shared.
//!
//! One watch brings every change to each node, so that a look at the state costs nobody a question and needs nobody's
//! answer: while etcd is away, what is known is read as before, and changes are refused. All of it is in a file as well,
//! from which a daemon that is started meanwhile goes on.
//!
//! Who has changed something reads it afterwards: a transaction returns when the mirror shows what came of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::Write;
use super::etcd::Attempt;
use super::file::File;
use super::image::Image;
use super::snapshot::{Change, Record, Snapshot};
use super::{Entry, Etcd, Event, Leadership, LeaseId, Outcome, Range, Revision, Store, StoreError, Txn, WatchStream};
use crate::task::Task;

/// Between attempts to read everything again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a transaction waits for what came of it: longer, and the watch is broken.
const PATIENCE: Duration = Duration::from_secs(5);
/// Changes that are written to the file at once.
const BATCH: usize = 256;

/// The etcd of several nodes, through this node's copy of it.
pub struct Mirror {
    etcd: Arc<Etcd>,
    shared: Arc<Shared>,
    _following: Task,
}

struct Shared {
    image: Image,
    /// Of the image, for those who wait for one.
    revision: watch::Sender<Revision>,
}

impl Mirror {
    /// Reads everything, or goes on from the file when etcd does not answer.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has the file; [`StoreError::Etcd`] when etcd does not answer and there
    /// is no file.
    pub async fn open(etcd: Etcd, path: &Path) -> Result<Self, StoreError> {
        let kept = match File::open(path) {
            Ok((file, snapshot)) => Some((file, snapshot)),
            Err(error @ StoreError::InUse { .. }) => return Err(error),
            Err(error) => {
                if path.exists() {
                    warn!(%error, "This node's copy of the state cannot be read; making it anew.");
                }
                None
            }
        };
        let (image, file) = match (etcd.range("").await, kept) {
            (Ok(range), kept) => {
                let image = Snapshot::from(range);
                let current = kept.filter(|(_, snapshot)| snapshot.revision == image.revision);
                let file = match current {
                    Some((file, _)) => file,
                    None => File::create(path, &image)?,
                };
                (image, file)
            }
            (Err(error), Some((file, snapshot))) => {
                warn!(%error, revision = snapshot.revision, "Going on from this node's copy of the state.");
                (snapshot, file)
            }
            (Err(error), None) => return Err(error),
        };
        let shared = Arc::new(Shared { revision: watch::Sender::new(image.revision), image: Image::new(image) });
        let etcd = Arc::new(etcd);
        let copy = Copy { path: path.to_owned(), file: Some(file) };
        let following = Task::spawn(follow(Arc::clone(&etcd), Arc::clone(&shared), copy));
        Ok(Self { etcd, shared, _following: following })
    }

    /// Waits until what is read here is as `reached` wants it.
    async fn until(&self, reached: impl Fn(&Snapshot) -> bool) {
        let mut revision = self.shared.revision.subscribe();
        let waiting = async {
            while !reached(&self.shared.image.read()) {
                // The sender lives as long as this.
                let _changed = revision.changed().await;
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            warn!("What was changed in etcd has not come back; going on without.");
        }
    }

    /// Whoever met a conflict reads again, and must not find what was there before it.
    async fn see_conflict(&self, compared: &[(String, Option<Revision>)]) {
        self.until(|image| {
            compared.iter().all(|(key, found)| match (found, image.entries.get(key).map(|record| record.revision)) {
                (Some(found), Some(here)) => here >= *found,
                // It may have been made or removed again meanwhile, and all is compared once more anyway.
                (Some(found), None) => image.revision >= *found,
                (None, here) => here.is_none(),
            })
        })
        .await;
    }
}

impl Shared {
    fn take(&self, change: Change) {
        let revision = change.revision;
        self.image.apply(change);
        self.revision.send_replace(revision);
    }

    fn replace(&self, image: Snapshot) {
        let revision = image.revision;
        self.image.replace(image);
        self.revision.send_replace(revision);
    }
}

/// Has the image follow etcd, for as long as it is polled. What is shown is in the file first: what was begun because of it
/// must not be unknown to the next daemon.
async fn follow(etcd: Arc<Etcd>, shared: Arc<Shared>, mut copy: Copy) {
    loop {
        let after = shared.image.read().revision;
        match etcd.watch("", after).await {
            Ok(events) => {
                let mut events = events.ready_chunks(BATCH);
                while let Some(batch) = events.next().await {
                    let broken = batch.iter().find_map(|events| events.as_ref().err().map(ToString::to_string));
                    let changes: Vec<Change> = batch.into_iter().flatten().filter_map(change).collect();
                    copy.apply(&changes, &shared).await;
                    changes.into_iter().for_each(|change| shared.take(change));
                    if let Some(error) = broken {
                        warn!(error, "Reading all of etcd again.");
                        break;
                    }
                }
            }
            Err(error) => warn!(%error, "Cannot watch etcd; trying again."),
        }
        loop {
            match etcd.range("").await {
                Ok(range) => {
                    let image = Snapshot::from(range);
                    copy.replace(&image).await;
                    shared.replace(image);
                    break;
                }
                Err(_) => sleep(RETRY).await,
            }
        }
    }
}

/// The file.
struct Copy {
    path: PathBuf,
    /// [`None`] while it could not be written: it is made anew with the next change.
    file: Option<File>,
}

impl Copy {
    async fn apply(&mut self, changes: &[Change], shared: &Arc<Shared>) {
        if changes.is_empty() {
            return;
        }
        let (changes, file) = (changes.to_vec(), self.file.take());
        match file {
            Some(file) => self.keep(move |_| file.apply(&changes).map(|()| file)).await,
            None => {
                let mut image = shared.image.read().clone();
                changes.into_iter().for_each(|change| drop(image.apply(change)));
                self.replace(&image).await;
            }
        }
    }

    async fn replace(&mut self, image: &Snapshot) {
        // It is locked by whoever has it open.
        self.file = None;
        let image = image.clone();
        self.keep(move |path| File::create(path, &image)).await;
    }

    /// A disk that is full holds nothing up: the state is in etcd.
    async fn keep(&mut self, work: impl FnOnce(&Path) -> Result<File, StoreError> + Send + 'static) {
        let path = self.path.clone();
        match spawn_blocking(move || work(&path)).await {
            Ok(Ok(file)) => self.file = Some(file),
            Ok(Err(error)) => {
                warn!(%error, "This node's copy of the state is behind; writing it with the next change.")
            }
            Err(_) => {}
        }
    }
}

/// The change that brought the events of one revision.
fn change(events: Vec<Event>) -> Option<Change> {
    let revision = events.first()?.revision();
    let write = |event| match event {
        Event::Put(Entry { key, value, lease, .. }) => Write::Put { key, value, lease },
        Event::Delete { key, .. } => Write::Delete(key),
    };
    Some(Change { revision, writes: events.into_iter().map(write).collect(), ..Change::default() })
}

#[async_trait]
impl Store for Mirror {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.shared.image.get(key))
    }

    async fn range(&self, prefix: &str) -> Result<Range, StoreError> {
        Ok(self.shared.image.range(prefix))
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError> {
        let (mut puts, mut deletes) = (false, Vec::new());
        for write in &txn.then {
            match write {
                Write::Put { .. } => puts = true,
                Write::Delete(key) => deletes.push(key.clone()),
            }
        }
        match self.etcd.attempt(txn).await? {
            Attempt::Committed(revision) => {
                // To remove what is not there makes no revision.
                let gone = |image: &Snapshot| !puts && deletes.iter().all(|key| !image.entries.contains_key(key));
                self.until(|image| image.revision >= revision || gone(image)).await;
                Ok(Outcome::Committed(revision))
            }
            Attempt::Conflict(compared) => {
                self.see_conflict(&compared).await;
                Ok(Outcome::Conflict)
            }
        }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        Ok(self.shared.image.watch(prefix, after))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.etcd.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.etcd.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.etcd.revoke(lease).await
    }

    async fn campaign(&self, election: &str, candidate: &str) -> Result<Leadership, StoreError> {
        let leadership = self.etcd.campaign(election, candidate).await?;
        info!(election, candidate, "Leads.");
        let won = |record: &Record| record.revision >= leadership.revision;
        self.until(|image| image.entries.get(&leadership.key).is_some_and(won)).await;
        Ok(leadership)
    }
}
