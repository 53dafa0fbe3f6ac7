//! What becomes of deployments, runs and replicas: what is remembered, and what happens from now on.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::Response;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::error::Refusal;
use super::routes::Asked;
use super::rows::Filter;
use super::stream::{QUEUE, from_channel, line};
use super::types::{ErrorBody, HistoryEvent};
use super::{Api, stream};
use crate::clock::unix;
use crate::controller::State as Assignments;
use crate::model::{Deployment, DeploymentState, ReplicaKey, ReplicaStatus, Run, RunState, Runs, ServiceKey};
use crate::store::schema::{self, Subject, Versioned};
use crate::store::{Event, StoreError};

/// Whether to go on.
#[derive(Debug, Clone, Copy, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Follow {
    /// Tell what happens from now on, too; ends when skepd does.
    #[serde(default)]
    follow: bool,
}

/// Tells what became of deployments and runs, the oldest first; then, if that is wanted, every step of one and every change of a
/// replica as it happens.
#[utoipa::path(get, path = "/v1/events", params(Filter, Follow),
    responses((status = 200, body = HistoryEvent, content_type = "application/x-ndjson"),
        (status = "4XX", body = ErrorBody)))]
pub(super) async fn events(
    State(api): State<Api>,
    filter: Asked<Filter>,
    follow: Asked<Follow>,
) -> Result<Response, Refusal> {
    let (Query(filter), Query(Follow { follow })) = (filter?, follow?);
    let state = Assignments::load(api.store.as_ref()).await?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        for event in remembered(&state).into_iter().filter(|event| shows(&filter, event)) {
            if sender.send(line(&event)).await.is_err() {
                return;
            }
        }
        // An error ends the stream; who follows begins again.
        if follow && let Err(error) = tell(&api, state, &filter, &sender).await {
            tracing::warn!(%error, "A stream of events broke off.");
        }
    });
    Ok(stream::ndjson(from_channel(receiver)))
}

fn shows(filter: &Filter, event: &HistoryEvent) -> bool {
    filter.shows_any(Some(&event.key()))
}

/// How each deployment and each run began and ended.
fn remembered(state: &Assignments) -> Vec<HistoryEvent> {
    let mut events = Vec::new();
    for deployment in state.deployments.values().map(|deployment| &deployment.value) {
        let begun = Deployment { state: DeploymentState::Queued, reason: None, ..deployment.clone() };
        events.push(HistoryEvent::of_deployment(&begun, deployment.created));
        events.extend(deployment.ended.map(|ended| HistoryEvent::of_deployment(deployment, ended)));
    }
    for runs in state.runs.values().map(|runs| &runs.value) {
        for run in &runs.runs {
            let begun = Run { state: RunState::Running, reason: None, ..run.clone() };
            events.extend(run.started.map(|started| HistoryEvent::of_run(&runs.key, &begun, started)));
            events.extend(run.ended.map(|ended| HistoryEvent::of_run(&runs.key, run, ended)));
        }
    }
    events.sort_by_key(|event| event.time_ms);
    events
}

async fn tell(api: &Api, state: Assignments, filter: &Filter, lines: &mpsc::Sender<Bytes>) -> Result<(), StoreError> {
    let mut replicas: BTreeMap<ReplicaKey, ReplicaStatus> =
        state.statuses.into_iter().map(|((key, _), status)| (key, status)).collect();
    let mut runs = state.runs.into_iter().map(|(key, runs)| (key, runs.value)).collect();
    let mut changes = api.store.watch("/", state.revision).await?;
    loop {
        let next = tokio::select! {
            next = changes.next() => next,
            () = lines.closed() => return Ok(()),
        };
        for change in next.transpose()?.unwrap_or_default() {
            let Event::Put(entry) = &change else { continue };
            let events = match Subject::of(change.key()) {
                Some(Subject::Deployment(_)) => {
                    let Versioned { value, .. } = schema::decode::<Deployment>(entry)?;
                    vec![HistoryEvent::of_deployment(&value, unix())]
                }
                Some(Subject::Runs(_)) => changed(&mut runs, schema::decode::<Runs>(entry)?.value),
                Some(Subject::Status(..)) => {
                    let Versioned { value, .. } = schema::decode::<ReplicaStatus>(entry)?;
                    let before = replicas.insert(value.key.clone(), value.clone());
                    if before.is_some_and(|before| (before.state, &before.message) == (value.state, &value.message)) {
                        continue;
                    }
                    vec![HistoryEvent::of_replica(&value, unix())]
                }
                _ => continue,
            };
            for event in events.iter().filter(|event| shows(filter, event)) {
                if lines.send(line(event)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// What became of a service's runs since they were last looked at.
fn changed(known: &mut BTreeMap<ServiceKey, Runs>, now: Runs) -> Vec<HistoryEvent> {
    let before = known.insert(now.key.clone(), now.clone());
    let is_known = |run: &&Run| before.as_ref().is_some_and(|before| before.runs.contains(run));
    now.runs.iter().filter(|run| !is_known(run)).map(|run| HistoryEvent::of_run(&now.key, run, unix())).collect()
}
