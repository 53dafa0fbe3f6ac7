//! What may be asked.

use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use dataplane_ebpf::abi::ABI_VERSION;

use super::error::Refusal;
use super::rows::{self, Filter, View};
use super::types::{CheckRow, DeploymentRow, EndpointRow, ErrorBody, Level, NameRow, ReplicaRow, ServiceRow, Version};
use super::{
    Api, Peer, activity, copies, inside, inspect, intent, invitations, leave, nodes, one_offs, prune, registries,
    relay, runs, secrets,
};
use crate::agent::in_one_line;
use crate::host::{self, HostFacts};
use crate::model::file::FILES_MAX;
use crate::store::Snapshot;

pub(super) type Answer<T> = Result<Json<T>, Refusal>;
pub(super) type Asked<T> = Result<Query<T>, QueryRejection>;

/// Octets of an environment with all its files, in base64, and as much again.
const BODY_MAX: usize = FILES_MAX / 3 * 4 * 2;

/// Every route.
pub(super) fn router(api: Api) -> Router {
    Router::new()
        .route(
            "/v1/environments/{project}/{environment}",
            put(intent::put).delete(leave::delete).layer(DefaultBodyLimit::max(BODY_MAX)),
        )
        .route("/v1/environments/{project}/{environment}/services/{service}", get(inspect::service))
        .route("/v1/environments/{project}/{environment}/services/{service}/deploy", post(intent::deploy))
        .route("/v1/environments/{project}/{environment}/services/{service}/rollback", post(intent::rollback))
        .route("/v1/environments/{project}/{environment}/services/{service}/scale", post(intent::scale))
        .route("/v1/environments/{project}/{environment}/services/{service}/run", post(one_offs::run))
        .merge(inside_replicas().route_layer(from_fn_with_state(api.clone(), relay::to_its_node)))
        .route("/v1/environments/{project}/{environment}/stop", post(activity::stop))
        .route("/v1/environments/{project}/{environment}/start", post(activity::start))
        .route("/v1/environments/{project}/{environment}/restart", post(activity::restart))
        .route("/v1/environments/{project}/{environment}/remove", post(activity::remove))
        .route("/v1/environments/{project}/{environment}/watch", get(super::stream::watch))
        .route("/v1/replicas", get(replicas))
        .route("/v1/environments/{project}/{environment}/services/{service}/rotate", post(secrets::rotate))
        .route("/v1/services", get(services))
        .route("/v1/invitations", post(invitations::post))
        .route("/v1/nodes", get(nodes::list))
        .route("/v1/nodes/{node}", delete(nodes::remove))
        .route("/v1/nodes/{node}/cordon", post(nodes::cordon))
        .route("/v1/nodes/{node}/uncordon", post(nodes::uncordon))
        .route("/v1/nodes/{node}/drain", post(nodes::drain))
        .route("/v1/nodes/{node}/labels", post(nodes::label))
        .route("/v1/nodes/{node}/roles", post(nodes::roles))
        .route("/v1/nodes/{node}/rotate-key", post(nodes::rotate_key))
        .route("/v1/secrets", get(secrets::list))
        .route("/v1/registries", get(registries::list))
        .route("/v1/registries/{registry}", put(registries::put).delete(registries::delete))
        .route("/v1/deployments", get(deployments))
        .route("/v1/runs", get(runs::list))
        .route("/v1/endpoints", get(endpoints))
        .route("/v1/names", get(names))
        .route("/v1/prune", post(prune::prune))
        .route("/v1/events", get(super::events::events))
        .route("/v1/logs", get(super::logs::logs))
        .route("/v1/monitor", get(super::monitor::monitor))
        .route("/v1/check", get(check))
        .route("/v1/snapshot", get(snapshot))
        .route("/v1/version", get(version))
        .route("/v1/openapi.json", get(async || Json(super::openapi::document())))
        .fallback(no_such_path)
        .with_state(api)
}

/// What the other nodes' daemons may ask: only what cannot be done there.
pub(super) fn between_nodes(api: Api) -> Router {
    inside_replicas()
        .route(super::logs::OF_CONTAINER, get(super::logs::of_container))
        .fallback(no_such_path)
        .with_state(api)
}

/// What can only be done where a replica is.
fn inside_replicas() -> Router<Api> {
    Router::new()
        .route("/v1/environments/{project}/{environment}/services/{service}/exec", post(inside::exec))
        .route("/v1/environments/{project}/{environment}/services/{service}/path", get(copies::path))
        .route(
            "/v1/environments/{project}/{environment}/services/{service}/archive",
            get(copies::read).post(copies::write),
        )
        .route("/v1/environments/{project}/{environment}/services/{service}/forward", post(inside::forward))
}

async fn no_such_path() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is no such path", "see GET /v1/openapi.json for those there are")
}

/// Replicas: what is assigned and what its node sees.
#[utoipa::path(get, path = "/v1/replicas", params(Filter), responses((status = 200, body = Vec<ReplicaRow>)))]
pub(super) async fn replicas(State(api): State<Api>, filter: Asked<Filter>) -> Answer<Vec<ReplicaRow>> {
    let view = View::read(api.store.as_ref()).await?;
    Ok(Json(replica_rows(&api, &view, &filter?.0).await))
}

/// The same, with what this node itself sees of its own now.
pub(super) async fn replica_rows(api: &Api, view: &View, filter: &Filter) -> Vec<ReplicaRow> {
    let mut rows = view.replicas(filter);
    view.doubt_absent(&mut rows, &api.node.name);
    if let Some(silent) = api.observer.docker_silence().await {
        rows::doubt(&mut rows, &api.node.name, silent);
    }
    // What the kernel lacks is graver than what Docker does not tell.
    match api.observer.installed().await {
        Ok(installed) => rows::complain(&mut rows, &api.node.name, &installed),
        Err(error) => tracing::warn!(error = in_one_line(&error), "Cannot look at the programs of this node."),
    }
    rows
}

/// Services with their VIPs.
#[utoipa::path(get, path = "/v1/services", params(Filter), responses((status = 200, body = Vec<ServiceRow>)))]
pub(super) async fn services(State(api): State<Api>, filter: Asked<Filter>) -> Answer<Vec<ServiceRow>> {
    Ok(Json(View::read(api.store.as_ref()).await?.services(&filter?.0)))
}

/// Versions of services: how each came to serve, or did not.
#[utoipa::path(get, path = "/v1/deployments", params(Filter), responses((status = 200, body = Vec<DeploymentRow>)))]
pub(super) async fn deployments(State(api): State<Api>, filter: Asked<Filter>) -> Answer<Vec<DeploymentRow>> {
    Ok(Json(View::read(api.store.as_ref()).await?.deployments(&filter?.0)))
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
