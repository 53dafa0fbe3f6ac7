//! Files out of replicas and into them.

use std::io;

use axum::body::{Body, Bytes};
use axum::extract::{Json, Path, Query, Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use futures_util::{StreamExt as _, TryStreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use super::Api;
use super::channels::{self, Channel, PROTOCOL};
use super::error::Refusal;
use super::inside::{container_of, switching, upgrade};
use super::routes::{Answer, Asked};
use super::stream::from_channel;
use super::types::{ErrorBody, PathRow};
use crate::agent::in_one_line;
use crate::model::ServiceKey;

/// Pieces that wait for the engine.
const AHEAD: usize = 4;

/// A path in a replica.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct At {
    /// Its number; without, the first one that runs, of this node before others.
    replica: Option<u32>,
    /// Absolute.
    path: String,
}

/// What is at a path of a replica.
#[utoipa::path(get, path = "/v1/environments/{project}/{environment}/services/{service}/path", params(At),
    responses((status = 200, body = PathRow), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn path(State(api): State<Api>, Path(key): Path<ServiceKey>, at: Asked<At>) -> Answer<PathRow> {
    let Query(At { replica, path }) = at?;
    let container = container_of(&api, &key, replica).await?;
    let found = api.observer.is_directory(&container, &path).await?;
    Ok(Json(PathRow { exists: found.is_some(), directory: found == Some(true) }))
}

/// What is at a path of a replica, as a tar archive.
#[utoipa::path(get, path = "/v1/environments/{project}/{environment}/services/{service}/archive", params(At),
    responses((status = 200, content_type = "application/x-tar"), (status = "4XX", body = ErrorBody),
        (status = "5XX", body = ErrorBody)))]
pub(super) async fn read(
    State(api): State<Api>,
    Path(key): Path<ServiceKey>,
    at: Asked<At>,
) -> Result<Response, Refusal> {
    let Query(At { replica, path }) = at?;
    let container = container_of(&api, &key, replica).await?;
    let mut archive = Box::pin(api.observer.read_archive(&container, &path).await?);
    let first = archive.next().await.transpose()?;
    let rest = archive.map_err(io::Error::other);
    let whole = futures_util::stream::iter(first.map(Ok)).chain(rest);
    let mut response = Response::new(Body::from_stream(whole));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    Ok(response)
}

/// Writes a tar archive below a directory of a replica, over what is there. The archive goes over the connection, which
/// has channels from then on; what comes back is how it ended, after why if that is not 0.
#[utoipa::path(post, path = "/v1/environments/{project}/{environment}/services/{service}/archive", params(At),
    responses((status = 101), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn write(
    State(api): State<Api>,
    Path(key): Path<ServiceKey>,
    at: Asked<At>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let upgrade = upgrade(&mut request, PROTOCOL)?;
    let Query(At { replica, path }) = at?;
    let container = container_of(&api, &key, replica).await?;
    tokio::spawn(async move {
        if let Ok(connection) = upgrade.await {
            let _gone = take(&api, &container, &path, connection).await;
        }
    });
    Ok(switching(PROTOCOL))
}

async fn take(api: &Api, container: &str, path: &str, connection: Upgraded) -> io::Result<()> {
    let (mut from, mut to) = tokio::io::split(TokioIo::new(connection));
    let (sender, receiver) = mpsc::channel(AHEAD);
    let hearing = async move {
        loop {
            let piece = match channels::read(&mut from).await {
                Ok(Some((Channel::Stdin, piece))) => Ok(Bytes::from(piece)),
                Ok(Some((Channel::Close, _))) => return,
                Ok(Some(_)) => Err(io::ErrorKind::InvalidData.into()),
                Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => Err(error),
            };
            let broken = piece.is_err();
            // The engine says by its answer why it wants no more.
            if sender.send(piece).await.is_err() || broken {
                return;
            }
        }
    };
    let (written, ()) = tokio::join!(api.observer.write_archive(container, path, from_channel(receiver)), hearing);
    let status: &[u8] = match written {
        Ok(()) => b"0",
        Err(error) => {
            channels::write(&mut to, Channel::Stderr, in_one_line(&error).as_bytes()).await?;
            b"1"
        }
    };
    channels::write(&mut to, Channel::Status, status).await?;
    to.shutdown().await
}
