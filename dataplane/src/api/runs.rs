//! Runs of services that have a schedule, as people look at them.

use axum::Json;
use axum::extract::State;

use super::Api;
use super::routes::{Answer, Asked};
use super::rows::{Filter, View, empty};
use super::types::{ReplicaRow, RunRow};
use crate::model::schedule::utc;
use crate::model::{ReplicaState, RunState, Runs, ServiceAssignment};

/// Runs of services that have a schedule: the last ones, and when the next one is due.
#[utoipa::path(get, path = "/v1/runs", params(Filter), responses((status = 200, body = Vec<RunRow>)))]
pub(super) async fn list(State(api): State<Api>, filter: Asked<Filter>) -> Answer<Vec<RunRow>> {
    let (view, filter) = (View::read(api.store.as_ref()).await?, filter?.0);
    let shown = view.state.runs.values().map(|runs| &runs.value).filter(|runs| filter.shows(&runs.key.environment));
    let serving = |runs: &Runs| view.state.services.get(&runs.key).map_or(0, |service| service.value.deployment);
    Ok(Json(shown.flat_map(|runs| RunRow::of(runs, serving(runs))).collect()))
}

/// What is said of a service between two runs, in a list of replicas; nothing while one goes on, or without a schedule.
pub(super) fn waiting(service: &ServiceAssignment, runs: &Runs) -> Option<ReplicaRow> {
    service.spec.schedule.as_ref().filter(|_| runs.open().next().is_none() && !service.leaving)?;
    let next = match &runs.next {
        Some(next) => format!("next run {}", utc(next.at)),
        None => "no run is due".into(),
    };
    let last = runs.runs.last().map(|run| match (run.state, &run.reason) {
        (RunState::Succeeded, _) | (_, None) => format!("; run {} {}", run.number, run.state),
        (state, Some(reason)) => format!("; run {} {state}: {reason}", run.number),
    });
    Some(ReplicaRow {
        state: ReplicaState::Scheduled,
        message: Some(next + &last.unwrap_or_default()),
        vip: service.vip4.to_string(),
        vip6: service.vip6.to_string(),
        image: service.spec.image.clone(),
        ..empty(&service.key.replica(service.deployment, runs.last))
    })
}
