//! How an environment comes to be what was asked for, line by line.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tokio::sync::mpsc;

use super::Api;
use super::error::Refusal;
use super::rows::View;
use super::types::{DeploymentRow, ErrorBody, WatchEvent};
use crate::clock::unix;
use crate::controller::{Clock, reconcile};
use crate::model::{DeploymentKey, DeploymentState, EnvironmentKey, ReplicaKey, ReplicaState, ReplicaStatus};
use crate::store::StoreError;

/// Lines that wait for a slow reader.
pub(super) const QUEUE: usize = 64;

/// Tells every replica's status and each change of it, until all is as wanted or has failed.
#[utoipa::path(get, path = "/v1/environments/{project}/{environment}/watch",
    responses((status = 200, body = WatchEvent, content_type = "application/x-ndjson"),
        (status = "5XX", body = ErrorBody)))]
pub(super) async fn watch(State(api): State<Api>, Path(key): Path<EnvironmentKey>) -> Result<Response, Refusal> {
    // The first look is taken here, so that a store that cannot be read is a proper answer.
    View::read(api.store.as_ref()).await?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        // An error ends the stream without its last line, and that is what the reader is told by it.
        if let Err(error) = tell(&api, &key, &sender).await {
            tracing::warn!(environment = %key, %error, "A watch of the API broke off.");
        }
    });
    Ok(ndjson(from_channel(receiver)))
}

/// What comes out of a channel.
pub(super) fn from_channel<T: Send + 'static>(receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> + Send + 'static {
    futures_util::stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|item| (item, receiver)) })
}

/// An answer that comes line by line.
pub(super) fn ndjson(lines: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let lines = lines.map(Ok::<_, Infallible>);
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// A line of it.
pub(super) fn line(event: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// What the reader knows.
#[derive(Default)]
struct Told {
    replicas: BTreeMap<ReplicaKey, ReplicaStatus>,
    deployments: BTreeMap<DeploymentKey, DeploymentRow>,
}

async fn tell(api: &Api, key: &EnvironmentKey, lines: &mpsc::Sender<Bytes>) -> Result<(), StoreError> {
    let mut told = Told::default();
    let mut view = View::read(api.store.as_ref()).await?;
    loop {
        let mut events = api.store.watch("/", view.state.revision).await?;
        // Statuses are read after the assignments: whatever changed since brings another look.
        loop {
            let done = outcome(api, key, &view)?;
            for event in changes(key, &view, &mut told).into_iter().chain(done.clone()) {
                if lines.send(line(&event)).await.is_err() {
                    return Ok(());
                }
            }
            if done.is_some() {
                return Ok(());
            }
            let next = tokio::select! {
                next = events.next() => next,
                () = lines.closed() => return Ok(()),
            };
            match next {
                Some(Ok(_)) => view = View::read(api.store.as_ref()).await?,
                Some(Err(StoreError::Compacted { .. })) | None => break,
                Some(Err(error)) => return Err(error),
            }
        }
        view = View::read(api.store.as_ref()).await?;
    }
}

/// What differs from what was told.
fn changes(key: &EnvironmentKey, view: &View, told: &mut Told) -> Vec<WatchEvent> {
    let mut events = Vec::new();
    for service in view.state.services_of(key) {
        let Some(latest) = view.state.deployments_of(&service.value.key).last() else { continue };
        let row = view.deployment(&latest.value);
        if told.deployments.get(&latest.value.key) != Some(&row) {
            told.deployments.insert(latest.value.key.clone(), row.clone());
            events.push(WatchEvent::Deployment(row));
        }
    }
    let told = &mut told.replicas;
    let statuses = view.state.statuses.values().map(|status| (&status.key, status));
    let now: BTreeMap<_, _> = statuses.filter(|(replica, _)| replica.service.environment == *key).collect();
    let gone: Vec<_> = told.keys().filter(|replica| !now.contains_key(replica)).cloned().collect();
    for replica in gone {
        told.remove(&replica);
        events.push(WatchEvent::Gone(replica));
    }
    for (replica, status) in now {
        if told.get(replica) != Some(status) {
            told.insert(replica.clone(), status.clone());
            events.push(WatchEvent::Replica(status.clone()));
        }
    }
    events
}

/// The last line, when there is nothing more to wait for: the controller has nothing to assign and no deployment is on
/// its way, every replica is well, has ended by itself or has failed; what should be gone is gone.
fn outcome(api: &Api, key: &EnvironmentKey, view: &View) -> Result<Option<WatchEvent>, StoreError> {
    let state = &view.state;
    if let Some(condition) = state.conditions.get(key) {
        let failed = BTreeMap::from([(key.to_string(), condition.value.to_string())]);
        return Ok(Some(WatchEvent::Done { failed }));
    }
    if !reconcile(state, &api.config.pools(), key, Clock::at(unix()))?.txn.then.is_empty() {
        return Ok(None);
    }
    let mut failed = BTreeMap::new();
    for service in state.services_of(key).map(|service| &service.value) {
        let Some(latest) = state.deployments_of(&service.key).last().map(|latest| &latest.value) else { continue };
        match latest.state {
            DeploymentState::Queued | DeploymentState::Deploying => return Ok(None),
            DeploymentState::Failed => {
                failed.insert(latest.key.to_string(), latest.reason.clone().unwrap_or_default());
            }
            DeploymentState::Ready | DeploymentState::Superseded => {}
        }
    }
    let is_assigned = |replica: &ReplicaKey| state.replicas.get(replica).is_some_and(|replica| !replica.value.ending);
    let here = |replica: &&ReplicaKey| replica.service.environment == *key;
    if state.statuses.keys().map(|(replica, _)| replica).filter(here).any(|replica| !is_assigned(replica)) {
        return Ok(None);
    }
    // What was asked for of a run is that it comes when it is due.
    for replica in state.replicas_of(key).map(|replica| &replica.value).filter(|replica| !replica.is_passing()) {
        match state.status_of(&replica.key).map(|status| (status.state, &status.message)) {
            Some((ReplicaState::Running | ReplicaState::Exited, _)) => {}
            Some((ReplicaState::Failed | ReplicaState::Unhealthy, message)) => {
                failed.insert(replica.key.to_string(), message.clone().unwrap_or_default());
            }
            _ => return Ok(None),
        }
    }
    match state.discards.get(key).map(|discard| &discard.value.problem) {
        Some(None) => return Ok(None),
        Some(Some(problem)) => drop(failed.insert(key.to_string(), problem.clone())),
        None => {}
    }
    Ok(Some(WatchEvent::Done { failed }))
}
