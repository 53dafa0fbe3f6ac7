//! Pulls an image, and says how far it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};

use super::super::error::AgentError;
use super::super::status::Progress;
use super::Hands;
use crate::docker::{Docker, DockerError, PullProgress};
use crate::model::registry::registry_of;
use crate::model::spec::PullPolicy;
use crate::model::{Pulled, RegistryLogin, ReplicaAssignment, ReplicaKey, ReplicaState};
use crate::store::schema::{self, Versioned};
use crate::store::{Outcome, StoreError, Txn};

/// At most so often is progress written to the store.
const INTERVAL: Duration = Duration::from_secs(1);

/// Pulls under way, by image: many replicas of one image wait for one pull.
#[derive(Debug, Default)]
pub(in super::super) struct Pulls(Mutex<BTreeMap<String, Arc<Mutex<()>>>>);

impl Hands {
    /// Has the image of a replica there.
    ///
    /// # Errors
    /// [`AgentError`].
    pub(super) async fn pull(&self, replica: &ReplicaAssignment) -> Result<(), AgentError> {
        let image = replica.reference();
        let turn = Arc::clone(self.pulls.0.lock().await.entry(image.to_owned()).or_default());
        let only_one = turn.lock().await;
        let result = self.pull_once(replica).await;
        drop(only_one);
        // Whoever waits holds the lock already; the next one after them makes it anew.
        self.pulls.0.lock().await.remove(image);
        result
    }

    async fn pull_once(&self, replica: &ReplicaAssignment) -> Result<(), AgentError> {
        let (docker, image) = (&self.eyes.docker, replica.reference());
        if docker.image(image).await?.is_some() && !replica.asks_registry() {
            return Ok(());
        }
        if replica.spec.pull == PullPolicy::Never {
            let reason = "its pull_policy is never, and it is not on this node".to_owned();
            return Err(DockerError::Image { image: image.to_owned(), reason }.into());
        }
        let login = self.secrets.login(registry_of(image)).await?;
        pull(docker, replica, login.as_ref(), &self.progress).await?;
        if let Some(digest) = docker.image(image).await? {
            self.note_pulled(&replica.node, image, digest).await?;
        }
        Ok(())
    }

    /// Remembers that nobody else brought the image.
    async fn note_pulled(&self, node: &str, image: &str, digest: String) -> Result<(), StoreError> {
        let key = schema::pulled(node);
        loop {
            let (mut pulled, revision) = match schema::get_json(self.store.as_ref(), &key).await? {
                Some(Versioned { value, revision }) => (value, Some(revision)),
                None => (Pulled::default(), None),
            };
            pulled.images.insert(image.to_owned(), digest.clone());
            let txn = Txn::default().when(&key, revision).put(&key, &pulled)?;
            if let Outcome::Committed(_) = self.store.txn(txn).await? {
                return Ok(());
            }
        }
    }
}

async fn pull(
    docker: &Docker,
    replica: &ReplicaAssignment,
    login: Option<&RegistryLogin>,
    progress: &mpsc::UnboundedSender<(ReplicaKey, Progress)>,
) -> Result<(), DockerError> {
    let mut layers = Layers::default();
    let mut told = Instant::now();
    let image = replica.reference();
    if image.starts_with("sha256:") {
        let reason = format!(
            "this version was made of {image}, which came from no registry and is not on this node any more: load it \
            again, or have `skepctl deploy` take what the name stands for now"
        );
        return Err(DockerError::Image { image: replica.spec.image.clone(), reason });
    }
    docker
        .pull(image, login, |line| {
            layers.add(line);
            if told.elapsed() >= INTERVAL {
                told = Instant::now();
                let message = Some(format!("pulling {image}: {layers}"));
                let _gone =
                    progress.send((replica.key.clone(), Progress { state: ReplicaState::Pulling, message, cut: 0 }));
            }
        })
        .await
}

/// Bytes so far and in all, by layer.
#[derive(Default)]
struct Layers(BTreeMap<String, (u64, u64)>);

impl Layers {
    fn add(&mut self, line: PullProgress) {
        // Extraction counts its bytes from the start again; only the way over the network is told.
        if line.status != "Downloading" {
            return;
        }
        if let (Some(layer), Some(current), Some(total)) = (line.layer, line.current, line.total) {
            self.0.insert(layer, (current, total));
        }
    }
}

impl std::fmt::Display for Layers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (current, total) = self.0.values().fold((0, 0), |(c, t), (current, total)| (c + current, t + total));
        write!(f, "{} of {} MB", current / 1_000_000, total / 1_000_000)
    }
}
