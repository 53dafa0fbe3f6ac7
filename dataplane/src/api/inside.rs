//! Commands in replicas, and connections to them: the request's own connection becomes what is between both ends
//! (RFC 9110 section 7.8).

use std::io;
use std::pin::{Pin, pin};

use axum::body::Body;
use axum::extract::{FromRequest as _, Json, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use bollard::container::LogOutput;
use futures_util::StreamExt as _;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::Api;
use super::channels::{self, Channel, PROTOCOL, TCP};
use super::error::Refusal;
use super::routes::Asked;
use super::types::ErrorBody;
use crate::agent::Observer;
use crate::controller::State as Assignments;
use crate::docker::{Attached, Command};
use crate::model::{ReplicaAssignment, ReplicaState, ReplicaStatus, ServiceKey};

/// Which replica.
#[derive(Debug, Clone, Copy, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Its number; without, the first one that runs, of this node before others.
    pub(super) replica: Option<u32>,
}

/// Which port of which replica.
#[derive(Debug, Clone, Copy, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Port {
    /// Its number; without, the first one that runs, of this node before others.
    replica: Option<u32>,
    /// The port; without, the service's.
    port: Option<u16>,
}

/// Runs a command in a replica. What it reads and says goes over the connection, which has channels from then on.
#[utoipa::path(post, path = "/v1/environments/{project}/{environment}/services/{service}/exec", params(Which),
    request_body = Command,
    responses((status = 101), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn exec(
    State(api): State<Api>,
    Path(key): Path<ServiceKey>,
    which: Asked<Which>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let upgrade = upgrade(&mut request, PROTOCOL)?;
    let command = command(request).await?;
    let container = container_of(&api, &key, which?.replica).await?;
    let attached = api.observer.attach(&container, &command).await?;
    let observer = api.observer.clone();
    tokio::spawn(async move {
        // However it breaks, both ends see it.
        if let Ok(connection) = upgrade.await {
            let _gone = converse(&observer, attached, connection).await;
        }
    });
    Ok(switching(PROTOCOL))
}

/// Connects to a port of a replica, as a client beside the server would. The connection is that one from then on.
#[utoipa::path(post, path = "/v1/environments/{project}/{environment}/services/{service}/forward", params(Port),
    responses((status = 101), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn forward(
    State(api): State<Api>,
    Path(key): Path<ServiceKey>,
    port: Asked<Port>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let upgrade = upgrade(&mut request, TCP)?;
    // What is left of a body would be the connection's first octets.
    if axum::body::to_bytes(request.into_body(), 0).await.is_err() {
        return Err(Refusal::bad("this request has no body", "send none"));
    }
    let Query(Port { replica, port }) = port?;
    let (status, assigned) = here(&api, &key, replica).await?;
    let name = format!("{}.{}", key, status.key.replica);
    let port = port.or(assigned.spec.port).ok_or_else(|| {
        let error = format!("{key} does not say which port it listens on");
        Refusal::bad(error, "say it, as in `skepctl forward web:8080`")
    })?;
    let connected = api.observer.connect(&status.sandbox.unwrap_or_default(), assigned.address4, port).await?;
    let connected = connected.ok_or_else(|| does_not_run(&name, status.state))?;
    let mut stream = connected.map_err(|error| {
        let error = format!("{name} does not answer on port {port} ({error})");
        Refusal::new(StatusCode::BAD_GATEWAY, error, "see which port it listens on, and `skepctl logs`")
    })?;
    tokio::spawn(async move {
        if let Ok(connection) = upgrade.await {
            let _gone = tokio::io::copy_bidirectional(&mut TokioIo::new(connection), &mut stream).await;
        }
    });
    Ok(switching(TCP))
}

/// The command that a request is about.
pub(super) async fn command(request: Request) -> Result<Command, Refusal> {
    let Json(command) = Json::<Command>::from_request(request, &()).await?;
    if command.command.is_empty() {
        return Err(Refusal::bad("there is no command", "say which, as in `skepctl exec web sh`"));
    }
    Ok(command)
}

pub(super) fn upgrade(request: &mut Request, protocol: &'static str) -> Result<OnUpgrade, Refusal> {
    let asked = request.headers().get(header::UPGRADE);
    if asked.is_none_or(|asked| asked != protocol) {
        let remedy = format!("send `connection: upgrade` and `upgrade: {protocol}`");
        return Err(Refusal::new(StatusCode::UPGRADE_REQUIRED, "this is no answer but a connection", remedy));
    }
    Ok(hyper::upgrade::on(request))
}

pub(super) fn switching(protocol: &'static str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static(protocol));
    response
}

/// The container of the replica that is meant.
pub(super) async fn container_of(api: &Api, key: &ServiceKey, replica: Option<u32>) -> Result<String, Refusal> {
    let (status, _) = here(api, key, replica).await?;
    Ok(status.container.unwrap_or_default())
}

/// The replica that is meant, which has to be of this node.
async fn here(
    api: &Api,
    key: &ServiceKey,
    replica: Option<u32>,
) -> Result<(ReplicaStatus, ReplicaAssignment), Refusal> {
    let (status, assigned) = meant(api, key, replica).await?;
    let name = format!("{key}.{}", status.key.replica);
    if status.node != api.node.name {
        let error = format!("{name} runs on {}, and this is {}", status.node, api.node.name);
        return Err(Refusal::new(StatusCode::CONFLICT, error, "run skepctl there"));
    }
    if status.container.is_none() || status.sandbox.is_none() {
        return Err(does_not_run(&name, status.state));
    }
    Ok((status, assigned))
}

/// The replica that is meant: one that runs, of this node before others, of the version that serves, the first.
pub(super) async fn meant(
    api: &Api,
    key: &ServiceKey,
    replica: Option<u32>,
) -> Result<(ReplicaStatus, ReplicaAssignment), Refusal> {
    let state = Assignments::load(api.store.as_ref()).await?;
    let service = state.services.get(key).ok_or_else(|| Refusal::no_service(key, state.services.keys()))?;
    let serving = service.value.deployment;
    let is_meant = |status: &&ReplicaStatus| {
        status.key.service == *key
            && !status.key.is_one_off()
            && replica.is_none_or(|replica| replica == status.key.replica)
    };
    let rank = |status: &&ReplicaStatus| {
        let runs = matches!(status.state, ReplicaState::Running | ReplicaState::Unhealthy);
        (!runs, status.node != api.node.name, status.key.deployment != serving, status.key.replica)
    };
    let name = replica.map_or_else(|| key.to_string(), |replica| format!("{key}.{replica}"));
    let status = state.statuses.values().filter(is_meant).min_by_key(rank);
    let assigned = status.and_then(|status| state.replicas.get(&status.key));
    let (Some(status), Some(assigned)) = (status, assigned) else {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            format!("there is no replica of {name}"),
            "see `skepctl ps` for those that are there",
        ));
    };
    Ok((status.clone(), assigned.value.clone()))
}

fn does_not_run(name: &str, state: ReplicaState) -> Refusal {
    let error = format!("{name} does not run: it is {state}");
    Refusal::new(StatusCode::CONFLICT, error, "see `skepctl ps`, and `skepctl logs` for what it said")
}

/// Until the command ends, or whoever started it goes.
pub(super) async fn converse(observer: &Observer, attached: Attached, connection: Upgraded) -> io::Result<()> {
    let (from, mut to) = tokio::io::split(TokioIo::new(connection));
    let Attached { id, input, mut output } = attached;
    let mut typed = pin!(typed(observer, &id, from, input));
    loop {
        let said = tokio::select! {
            said = output.next() => said,
            gone = &mut typed => return Err(gone),
        };
        match said {
            Some(Ok(LogOutput::StdErr { message })) => channels::write(&mut to, Channel::Stderr, &message).await?,
            Some(Ok(LogOutput::StdOut { message } | LogOutput::Console { message })) => {
                channels::write(&mut to, Channel::Stdout, &message).await?;
            }
            Some(Ok(LogOutput::StdIn { .. })) => {}
            Some(Err(_)) | None => break,
        }
    }
    if let Ok(Some(status)) = observer.exit_status(&id).await {
        channels::write(&mut to, Channel::Status, status.to_string().as_bytes()).await?;
    }
    to.shutdown().await
}

/// Hands on what the command reads, and how large its terminal is, until whoever started it has gone: how.
async fn typed(
    observer: &Observer,
    id: &str,
    mut from: impl AsyncRead + Unpin,
    mut input: Pin<Box<dyn AsyncWrite + Send>>,
) -> io::Error {
    loop {
        match channels::read(&mut from).await {
            // A command that has closed its input says by its end what it thinks of more.
            Ok(Some((Channel::Stdin, piece))) => drop(input.write_all(&piece).await),
            Ok(Some((Channel::Close, _))) => drop(input.shutdown().await),
            Ok(Some((Channel::Resize, piece))) => {
                if let Ok(size) = serde_json::from_slice(&piece) {
                    // It may have ended just now.
                    drop(observer.resize(id, size).await);
                }
            }
            Ok(Some((Channel::Stdout | Channel::Stderr | Channel::Status, _))) => {
                return io::ErrorKind::InvalidData.into();
            }
            Ok(None) => return io::ErrorKind::UnexpectedEof.into(),
            Err(error) => return error,
        }
    }
}
