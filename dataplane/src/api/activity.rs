//! Services stop, start again, are started anew and are removed, without anybody's file.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};

use super::Api;
use super::error::Refusal;
use super::intent::Dry;
use super::routes::{Answer, Asked};
use super::types::{Accepted, ErrorBody, Services};
use crate::model::{EnvironmentKey, ServiceSpec};

/// Stops services: nothing of them runs, their names and addresses stay, and nobody answers there.
#[utoipa::path(post, path = "/v1/environments/{project}/{environment}/stop", params(Dry), request_body = Services,
    responses((status = 200, body = Accepted), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn stop(
    State(api): State<Api>,
    Path(key): Path<EnvironmentKey>,
    dry: Asked<Dry>,
    body: Result<Json<Services>, JsonRejection>,
) -> Answer<Accepted> {
    change(&api, &key, dry?, &body?, |service| {
        if service.stopped.is_none() {
            (service.stopped, service.replicas) = (Some(service.replicas), 0);
        }
    })
    .await
}

/// Starts services that were stopped, as many replicas of each as there were.
#[utoipa::path(post, path = "/v1/environments/{project}/{environment}/start", params(Dry), request_body = Services,
    responses((status = 200, body = Accepted), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn start(
    State(api): State<Api>,
    Path(key): Path<EnvironmentKey>,
    dry: Asked<Dry>,
    body: Result<Json<Services>, JsonRejection>,
) -> Answer<Accepted> {
    change(&api, &key, dry?, &body?, |service| {
        if let Some(replicas) = service.stopped.take() {
            service.replicas = replicas;
        }
    })
    .await
}

/// Starts services anew: the same again as the next deployment of each, in the way of every deployment.
#[utoipa::path(post, path = "/v1/environments/{project}/{environment}/restart", params(Dry), request_body = Services,
    responses((status = 200, body = Accepted), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn restart(
    State(api): State<Api>,
    Path(key): Path<EnvironmentKey>,
    dry: Asked<Dry>,
    body: Result<Json<Services>, JsonRejection>,
) -> Answer<Accepted> {
    change(&api, &key, dry?, &body?, |service| {
        if let Some(replicas) = service.stopped.take() {
            service.replicas = replicas;
        } else {
            service.attempt += 1;
        }
    })
    .await
}

/// Removes services from an environment, as if its file did not say them any more. What they stored stays.
#[utoipa::path(post, path = "/v1/environments/{project}/{environment}/remove", params(Dry), request_body = Services,
    responses((status = 200, body = Accepted), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn remove(
    State(api): State<Api>,
    Path(key): Path<EnvironmentKey>,
    dry: Asked<Dry>,
    body: Result<Json<Services>, JsonRejection>,
) -> Answer<Accepted> {
    let (Query(dry), Json(Services { services })) = (dry?, body?);
    let accepted = api
        .change(&key, dry, |state| {
            let intent = state.intents.get(&key).ok_or_else(|| Refusal::no_environment(&key))?;
            let mut spec = intent.value.clone();
            for service in &services {
                let removed = spec.services.remove(service);
                removed.ok_or_else(|| Refusal::no_service(&key.service(service), state.services.keys()))?;
            }
            if services.is_empty() || spec.services.is_empty() {
                let error = format!("{key} would have no service any more, or it is not said which it is to lose");
                return Err(Refusal::bad(error, "name some of them, or take it away with `skepctl down`"));
            }
            Ok(Some(spec))
        })
        .await?;
    if !dry.is_dry() {
        api.sweep(Some(&key)).await?;
    }
    Ok(accepted)
}

/// All of them in one step, or none.
async fn change(
    api: &Api,
    key: &EnvironmentKey,
    Query(dry): Query<Dry>,
    Json(Services { services }): &Json<Services>,
    change: impl Fn(&mut ServiceSpec),
) -> Answer<Accepted> {
    api.change(key, dry, |state| {
        let intent = state.intents.get(key).ok_or_else(|| Refusal::no_environment(key))?;
        let mut spec = intent.value.clone();
        if services.is_empty() {
            spec.services.values_mut().for_each(&change);
        }
        for service in services {
            let found = spec.services.get_mut(service);
            change(found.ok_or_else(|| Refusal::no_service(&key.service(service), state.services.keys()))?);
        }
        Ok(Some(spec))
    })
    .await
}
