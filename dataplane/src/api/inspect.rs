//! All that is known of one service.

use axum::Json;
use axum::extract::{Path, State};

use super::Api;
use super::error::Refusal;
use super::routes::{Answer, replica_rows};
use super::rows::{Filter, View};
use super::types::{ErrorBody, RunRow, ServiceDetail};
use crate::model::ServiceKey;

/// What a service is to be, what is assigned to it, and how it fares.
#[utoipa::path(get, path = "/v1/environments/{project}/{environment}/services/{service}",
    responses((status = 200, body = ServiceDetail), (status = "4XX", body = ErrorBody)))]
pub(super) async fn service(State(api): State<Api>, Path(key): Path<ServiceKey>) -> Answer<ServiceDetail> {
    let view = View::read(api.store.as_ref()).await?;
    let filter = Filter::of(&key.environment);
    let found = view.services(&filter).into_iter().find(|row| row.service == key.service);
    let (Some(service), Some(assigned)) = (found, view.state.services.get(&key)) else {
        return Err(Refusal::no_service(&key, view.state.services.keys()));
    };
    let is_its = |service: &String| *service == key.service;
    let runs = view.state.runs.get(&key).map(|runs| RunRow::of(&runs.value, assigned.value.deployment));
    Ok(Json(ServiceDetail {
        service,
        spec: assigned.value.spec.clone(),
        deployments: view.deployments(&filter).into_iter().filter(|row| is_its(&row.service)).collect(),
        replicas: replica_rows(&api, &view, &filter).await.into_iter().filter(|row| is_its(&row.service)).collect(),
        endpoints: view.endpoints(&filter).into_iter().filter(|row| is_its(&row.service)).collect(),
        names: view.names(&filter).into_iter().filter(|row| is_its(&row.service)).collect(),
        runs: runs.into_iter().flatten().collect(),
    }))
}
