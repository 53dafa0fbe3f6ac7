//! How an environment comes to be what was asked for, line by line.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::{SystemTime, UNIX_EPOCH};

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
use super::types::{ErrorBody, WatchEvent};
use crate::controller::reconcile;
use crate::model::{EnvironmentKey, ReplicaKey, ReplicaState, ReplicaStatus};
use crate::store::StoreError;

/// Lines that wait for a slow reader.
const QUEUE: usize = 64;

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
    let lines = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|line| (line, receiver))
    });
    Ok(ndjson(lines))
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

async fn tell(api: &Api, key: &EnvironmentKey, lines: &mpsc::Sender<Bytes>) -> Result<(), StoreError> {
    let mut told: BTreeMap<ReplicaKey, ReplicaStatus> = BTreeMap::new();
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
fn changes(key: &EnvironmentKey, view: &View, told: &mut BTreeMap<ReplicaKey, ReplicaStatus>) -> Vec<WatchEvent> {
    let now: BTreeMap<_, _> = view.statuses.iter().filter(|(replica, _)| replica.service.environment == *key).collect();
    let gone: Vec<_> = told.keys().filter(|replica| !now.contains_key(replica)).cloned().collect();
    let mut events = Vec::new();
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

/// The last line, when there is nothing more to wait for: the controller has nothing to assign, and every replica
/// runs, has ended by itself or has failed; what should be gone is gone.
fn outcome(api: &Api, key: &EnvironmentKey, view: &View) -> Result<Option<WatchEvent>, StoreError> {
    if let Some(condition) = view.state.conditions.get(key) {
        let failed = BTreeMap::from([(key.to_string(), condition.value.to_string())]);
        return Ok(Some(WatchEvent::Done { failed }));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    if !reconcile(&view.state, &api.config.pools(), key, now)?.then.is_empty() {
        return Ok(None);
    }
    let assigned: BTreeSet<_> = view.state.replicas_of(key).map(|replica| &replica.value.key).collect();
    let leaving = |replica: &&ReplicaKey| replica.service.environment == *key && !assigned.contains(replica);
    if view.statuses.keys().any(|replica| leaving(&replica)) {
        return Ok(None);
    }
    let mut failed = BTreeMap::new();
    for replica in view.state.replicas_of(key).map(|replica| &replica.value) {
        let status = view.statuses.get(&replica.key).filter(|status| status.deployment == replica.deployment);
        match status.map(|status| (status.state, &status.message)) {
            Some((ReplicaState::Running | ReplicaState::Exited, _)) => {}
            Some((ReplicaState::Failed, message)) => {
                failed.insert(replica.key.to_string(), message.clone().unwrap_or_default());
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(WatchEvent::Done { failed }))
}
