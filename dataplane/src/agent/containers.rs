//! The containers as Docker last told: it is asked again about those that something happened to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::docker::{Docker, DockerError, ObservedContainer};

/// Docker is asked about everything that often, events or not.
const FULL: Duration = Duration::from_secs(300);
/// Docker answers a ping from memory, in well under a millisecond.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How many containers are asked about at a time.
const INSPECTIONS: usize = 8;

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Containers {
    known: tokio::sync::Mutex<Option<Known>>,
    news: Mutex<News>,
}

#[derive(Debug)]
struct Known {
    containers: BTreeMap<String, ObservedContainer>,
    listed: Instant,
}

/// What happened since the last look.
#[derive(Debug, Default)]
struct News {
    /// Events may have been missed.
    all: bool,
    touched: BTreeSet<String>,
}

impl Containers {
    /// Something happened to this one.
    pub(super) fn touch(&self, id: &str) {
        self.news().touched.insert(id.to_owned());
    }

    /// Anything may have happened.
    pub(super) fn forget(&self) {
        self.news().all = true;
    }

    /// Every container of this node.
    ///
    /// # Errors
    /// [`DockerError`]; the next call asks about all.
    pub(super) async fn look(&self, docker: &Docker, node: &str) -> Result<Vec<ObservedContainer>, DockerError> {
        let mut known = self.known.lock().await;
        // Taken before Docker is asked: what happens meanwhile is news for the next look.
        let news = std::mem::take(&mut *self.news());
        let last = known.take().filter(|known| !news.all && known.listed.elapsed() < FULL);
        if last.is_none() || !news.touched.is_empty() {
            // One that hangs still accepts connections: nothing else of this node is to wait for it.
            docker.ping(PATIENCE).await?;
        }
        let looked = match last {
            Some(last) => refresh(last, news.touched, docker).await,
            None => list(docker, node).await,
        };
        let known = known.insert(looked?);
        Ok(known.containers.values().cloned().collect())
    }

    fn news(&self) -> MutexGuard<'_, News> {
        // A panic while it is held leaves no half-written entry.
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn list(docker: &Docker, node: &str) -> Result<Known, DockerError> {
    let listed = Instant::now();
    let containers = docker.list(node).await?;
    Ok(Known {
        containers: containers.into_iter().map(|container| (container.id.clone(), container)).collect(),
        listed,
    })
}

async fn refresh(mut known: Known, touched: BTreeSet<String>, docker: &Docker) -> Result<Known, DockerError> {
    let asked = touched.into_iter().map(|id| async move { docker.inspect(&id).await.map(|found| (id, found)) });
    let mut answers = futures_util::stream::iter(asked).buffer_unordered(INSPECTIONS);
    while let Some((id, found)) = answers.try_next().await? {
        match found {
            Some(container) => drop(known.containers.insert(id, container)),
            None => drop(known.containers.remove(&id)),
        }
    }
    Ok(known)
}
