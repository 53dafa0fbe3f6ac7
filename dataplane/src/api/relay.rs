//! What is asked of one node and can only be done on another one: the request goes there as it is, and so does the answer
//! come back, or the connection that it becomes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::UPGRADE;
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::Api;
use super::error::Refusal;
use super::inside::{self, Which};
use super::routes::{self, Asked};
use crate::agent::in_one_line;
use crate::model::ServiceKey;
use crate::store::schema;
use crate::transport::Transport;

/// So many may be at the door without having said who they are.
const STRANGERS: usize = 32;
/// Between attempts, when the kernel lets nobody in.
const RETRY: Duration = Duration::from_secs(1);

/// Does it here, if the replica that is meant is one of this node; else has it done where it is.
pub(super) async fn to_its_node(
    State(api): State<Api>,
    Path(key): Path<ServiceKey>,
    which: Asked<Which>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let Query(which) = which?;
    let (status, _) = inside::meant(&api, &key, which.replica).await?;
    if status.node == api.node.name {
        return Ok(next.run(request).await);
    }
    ask(&api, &status.node, request).await
}

/// Has another node's daemon do it.
///
/// # Errors
/// [`Refusal`] when it cannot be asked; what it answers, whatever it is, is no error.
pub(super) async fn ask(api: &Api, node: &str, mut request: Request) -> Result<Response, Refusal> {
    let broken = |error: hyper::Error| {
        let error = format!("the connection to {node} broke ({})", in_one_line(&error));
        Refusal::new(StatusCode::BAD_GATEWAY, error, "try again")
    };
    let stream = connect(api, node).await?;
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends with the answer's last octet; what goes wrong with it, the answer tells.
    tokio::spawn(connection.with_upgrades());
    // The path alone: that is what the request was about, whatever its connection was called.
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    let near = request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let mut response = sender.send_request(request).await.map_err(broken)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(near) = near
    {
        let far = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let (Ok(near), Ok(far)) = tokio::join!(near, far) {
                // However it breaks, both ends see it.
                let _gone = copy_bidirectional(&mut TokioIo::new(near), &mut TokioIo::new(far)).await;
            }
        });
    }
    Ok(response.map(Body::new))
}

async fn connect(api: &Api, node: &str) -> Result<tokio::io::DuplexStream, Refusal> {
    let refuse = |error: String, remedy: &str| Refusal::new(StatusCode::BAD_GATEWAY, error, remedy);
    let presence = schema::get_json(api.store.as_ref(), &schema::presence(node)).await?;
    let tunnel = schema::get_json(api.store.as_ref(), &schema::tunnel(node)).await?;
    let Some(presence) = presence else {
        return Err(refuse(format!("{node} is away"), "see `skepctl nodes`, or run skepctl there"));
    };
    let (Some(transport), Some(daemon), Some(tunnel)) = (&api.transport, presence.value.daemon, tunnel) else {
        let error = format!("the skepd of {node} cannot be asked from {}", api.node.name);
        return Err(refuse(error, "run skepctl there, or see why in the log of skepd, there or here"));
    };
    let address = tunnel.value.endpoint.ip();
    transport.connect(address, &daemon).await.map_err(|error| {
        let error = format!("the skepd of {node} does not answer at {address}, TCP {} ({error})", daemon.port);
        refuse(error, "let the nodes reach each other there, or run skepctl on that node")
    })
}

/// Does what the other nodes' daemons ask, for as long as it is polled.
pub async fn serve(api: Api) -> Infallible {
    let Some(transport) = api.transport.clone() else { return std::future::pending().await };
    let router = routes::between_nodes(api.clone());
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    loop {
        let Ok(permit) = Arc::clone(&strangers).acquire_owned().await else { return std::future::pending().await };
        match transport.accept().await {
            Ok(stream) => {
                let (transport, api, router) = (Arc::clone(&transport), api.clone(), router.clone());
                tokio::spawn(async move { hear(&transport, stream, &api, router, permit).await });
            }
            Err(error) => {
                warn!(%error, "Cannot hear what other nodes ask.");
                sleep(RETRY).await;
            }
        }
    }
}

async fn hear<P>(transport: &Transport, stream: TcpStream, api: &Api, router: Router, permit: P) {
    let from = stream.peer_addr().ok();
    let (node, stream) = match transport.hear(stream, api.store.as_ref()).await {
        Ok(heard) => heard,
        Err(error) => return debug!(?from, %error, "Somebody connected who was not heard."),
    };
    drop(permit);
    debug!(node, "Asked by another node.");
    let service = TowerToHyperService::new(router);
    let served = server::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    if let Err(error) = served {
        debug!(node, %error, "A connection of another node broke.");
    }
}
