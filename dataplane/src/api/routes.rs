//! What may be asked.

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use dataplane_ebpf::abi::ABI_VERSION;

use super::error::Refusal;
use super::rows::{self, Filter, View};
use super::types::{Accepted, CheckRow, EndpointRow, ErrorBody, Level, NameRow, ReplicaRow, ServiceRow, Version};
use super::validate::validate;
use super::{Api, Peer};
use crate::agent::{Desired, desired, in_one_line, predict};
use crate::capacity;
use crate::controller::{self, ControllerError, State as Assignments};
use crate::host::{self, HostFacts};
use crate::model::{EnvironmentKey, EnvironmentSpec};
use crate::store::{Outcome, Snapshot, Txn, schema};

type Answer<T> = Result<Json<T>, Refusal>;
pub(super) type Asked<T> = Result<Query<T>, QueryRejection>;

/// Every route.
pub(super) fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/environments/{project}/{environment}", put(put_environment).delete(delete_environment))
        .route("/v1/environments/{project}/{environment}/watch", get(super::stream::watch))
        .route("/v1/replicas", get(replicas))
        .route("/v1/services", get(services))
        .route("/v1/endpoints", get(endpoints))
        .route("/v1/names", get(names))
        .route("/v1/monitor", get(super::monitor::monitor))
        .route("/v1/check", get(check))
        .route("/v1/snapshot", get(snapshot))
        .route("/v1/version", get(version))
        .route("/v1/openapi.json", get(async || Json(super::openapi::document())))
        .fallback(async || {
            Refusal::new(StatusCode::NOT_FOUND, "there is no such path", "see GET /v1/openapi.json for those there are")
        })
        .with_state(api)
}

/// Whether to do it, or to say what would be done.
#[derive(Debug, Default, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Dry {
    /// Change nothing; answer with the plan.
    #[serde(default)]
    dry_run: bool,
}

/// Makes an environment what the body says.
#[utoipa::path(put, path = "/v1/environments/{project}/{environment}", params(Dry), request_body = EnvironmentSpec,
    responses((status = 200, body = Accepted), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn put_environment(
    State(api): State<Api>,
    Path(key): Path<EnvironmentKey>,
    dry: Asked<Dry>,
    body: Result<Json<EnvironmentSpec>, JsonRejection>,
) -> Answer<Accepted> {
    let (Query(dry), Json(spec)) = (dry?, body?);
    validate(&key, &spec)?;
    let stages = controller::preview(api.store.as_ref(), &api.config.pools(), &key, Some(spec.clone())).await?;
    for stage in &stages {
        capacity::check(stage, &api.config.map_sizes).map_err(ControllerError::Condition)?;
    }
    if dry.dry_run {
        return api.plan(key, &stages).await;
    }
    let txn = Txn::default().put(&schema::intent(&key), &spec)?;
    accepted(key, api.store.txn(txn).await?)
}

/// Takes an environment away.
#[utoipa::path(delete, path = "/v1/environments/{project}/{environment}", params(Dry),
    responses((status = 200, body = Accepted), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn delete_environment(
    State(api): State<Api>,
    Path(key): Path<EnvironmentKey>,
    dry: Asked<Dry>,
) -> Answer<Accepted> {
    let Query(dry) = dry?;
    let intent = schema::intent(&key);
    if api.store.get(intent.as_str()).await?.is_none() {
        return Err(Refusal::no_environment(&key));
    }
    if dry.dry_run {
        let stages = controller::preview(api.store.as_ref(), &api.config.pools(), &key, None).await?;
        return api.plan(key, &stages).await;
    }
    accepted(key, api.store.txn(Txn::default().delete(&intent)).await?)
}

fn accepted(key: EnvironmentKey, outcome: Outcome) -> Answer<Accepted> {
    match outcome {
        Outcome::Committed(revision) => Ok(Json(Accepted { key, revision, plan: None })),
        Outcome::Conflict => {
            let error = format!("{key} was changed at the same moment");
            Err(Refusal::new(StatusCode::CONFLICT, error, "try again"))
        }
    }
}

impl Api {
    /// What this node would do, stage by stage.
    async fn plan(&self, key: EnvironmentKey, stages: &[Assignments]) -> Answer<Accepted> {
        let (mut plan, mut observed, mut revision) = (Vec::new(), None, 0);
        for stage in stages {
            let wanted = self.desired(stage);
            let mut now = match observed.take() {
                Some(mut now) => {
                    // Of what is made only now.
                    self.observer.images(&wanted, &mut now).await?;
                    now
                }
                None => self.observer.observe(&wanted).await?,
            };
            plan.extend(predict::simulate(&wanted, &mut now).iter().map(ToString::to_string));
            (observed, revision) = (Some(now), stage.revision);
        }
        Ok(Json(Accepted { key, revision, plan: Some(plan) }))
    }

    /// What this node should be.
    fn desired(&self, assignments: &Assignments) -> Desired {
        let values = assignments.replicas.values().map(|replica| &replica.value);
        let here = values.filter(|replica| replica.node == self.node.name);
        Desired {
            node: desired::Node { name: self.node.name.clone(), id: self.node.id, config: Arc::clone(&self.config) },
            environments: assignments.environments.iter().map(|(k, v)| (k.clone(), v.value.clone())).collect(),
            services: assignments.services.iter().map(|(k, v)| (k.clone(), v.value.clone())).collect(),
            revision: assignments.revision,
            replicas: here.map(|replica| (replica.key.clone(), Arc::new(replica.clone()))).collect(),
        }
    }
}

/// Replicas: what is assigned and what its node sees.
#[utoipa::path(get, path = "/v1/replicas", params(Filter), responses((status = 200, body = Vec<ReplicaRow>)))]
pub(super) async fn replicas(State(api): State<Api>, filter: Asked<Filter>) -> Answer<Vec<ReplicaRow>> {
    let mut rows = View::read(api.store.as_ref()).await?.replicas(&filter?.0);
    if let Some(silent) = api.observer.docker_silence().await {
        rows::doubt(&mut rows, &api.node.name, silent);
    }
    // What the kernel lacks is graver than what Docker does not tell.
    match api.observer.installed().await {
        Ok(installed) => rows::complain(&mut rows, &api.node.name, &installed),
        Err(error) => tracing::warn!(error = in_one_line(&error), "Cannot look at the programs of this node."),
    }
    Ok(Json(rows))
}

/// Services with their VIPs.
#[utoipa::path(get, path = "/v1/services", params(Filter), responses((status = 200, body = Vec<ServiceRow>)))]
pub(super) async fn services(State(api): State<Api>, filter: Asked<Filter>) -> Answer<Vec<ServiceRow>> {
    Ok(Json(View::read(api.store.as_ref()).await?.services(&filter?.0)))
}

/// The network presence of replicas.
#[utoipa::path(get, path = "/v1/endpoints", params(Filter), responses((status = 200, body = Vec<EndpointRow>)))]
pub(super) async fn endpoints(State(api): State<Api>, filter: Asked<Filter>) -> Answer<Vec<EndpointRow>> {
    Ok(Json(View::read(api.store.as_ref()).await?.endpoints(&filter?.0)))
}

/// Names that resolve.
#[utoipa::path(get, path = "/v1/names", params(Filter), responses((status = 200, body = Vec<NameRow>)))]
pub(super) async fn names(State(api): State<Api>, filter: Asked<Filter>) -> Answer<Vec<NameRow>> {
    Ok(Json(View::read(api.store.as_ref()).await?.names(&filter?.0)))
}

/// What this machine lacks, and what somebody meddled with.
#[utoipa::path(get, path = "/v1/check", responses((status = 200, body = Vec<CheckRow>)))]
pub(super) async fn check(State(api): State<Api>) -> Json<Vec<CheckRow>> {
    let wanted = host::Wanted::from(api.config.as_ref());
    let (facts, installed) = tokio::join!(HostFacts::gather(&wanted), api.observer.installed());
    let installed = installed.map_or_else(|error| vec![host::unreadable(&error)], |installed| installed.check());
    let findings = host::check(&facts, &wanted).into_iter().chain(installed).map(CheckRow::from);
    let foreign = api.observer.reports().recent().into_iter().map(|(age, foreign)| CheckRow {
        level: Level::Warn,
        what: format!("a foreign entry was removed {} s ago: {foreign}", age.as_secs()),
        remedy: format!("find out who writes below {}: only skepd should", api.config.bpffs.display()),
    });
    Json(findings.chain(foreign).collect())
}

/// The whole store as of one revision, for `skepd backup`. For root alone: secrets are in it.
#[utoipa::path(get, path = "/v1/snapshot",
    responses((status = 200, content_type = "application/octet-stream"), (status = 403, body = ErrorBody)))]
pub(super) async fn snapshot(State(api): State<Api>, ConnectInfo(peer): ConnectInfo<Peer>) -> Result<Vec<u8>, Refusal> {
    if peer.0 != Some(0) {
        let error = "the store holds secrets, and this is not root";
        return Err(Refusal::new(StatusCode::FORBIDDEN, error, "sudo skepd backup FILE"));
    }
    Ok(Snapshot::from(api.store.range("").await?).encode())
}

/// Which skepd this is.
#[utoipa::path(get, path = "/v1/version", responses((status = 200, body = Version)))]
pub(super) async fn version(State(api): State<Api>) -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION").into(),
        abi: ABI_VERSION,
        node: api.node.name,
        bpffs: api.config.bpffs.display().to_string(),
        pid: std::process::id(),
    })
}
