//! One question to a replica.
//!
//! It is asked by the node, but out of the replica's own network namespace, at the replica's own address: a socket
//! stays in the namespace that it was made in, whoever holds it. A packet from the host would reach the replica (its
//! mark says who sends it), but not the answer the host: replicas reach no address of a node. So nothing has to be
//! opened for it, no packet of it passes a program, and the records of what replicas connect to have none of it.
//! A server that listens on 127.0.0.1 alone is as unreachable by this address as it is for its clients.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::model::rollout::Probe;
use crate::netlink::{NetlinkError, Netns};

/// Octets of an answer's head that are read.
const HEAD_MAX: usize = 16 * 1024;

/// Octets of an answer's body that are read: what is longer is long enough to be taken for whole.
const BODY_MAX: usize = 64 * 1024;

/// Why a replica is not well, for people.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Namespace(#[from] NetlinkError),
    #[error("connection refused on port {0}")]
    Refused(u16),
    #[error("port {port}: {source}")]
    Connect { port: u16, source: io::Error },
    #[error("no answer within {} s", .0.as_secs_f64())]
    Silent(Duration),
    #[error("GET {path}: {status}")]
    Status { path: String, status: u16 },
    #[error("GET {path}: {what}")]
    Http { path: String, what: String },
}

/// Asks; `host` is the name that clients use.
pub(super) async fn ask(netns: &Netns, address: SocketAddr, host: &str, probe: &Probe) -> Result<(), Failure> {
    let limit = Duration::from_millis(probe.timeout);
    let asked = async {
        let stream = connect(netns, address).await?;
        match &probe.path {
            Some(path) => get(stream, path, &format!("{host}:{}", address.port())).await,
            None => Ok(()),
        }
    };
    tokio::time::timeout(limit, asked).await.unwrap_or(Err(Failure::Silent(limit)))
}

async fn connect(netns: &Netns, address: SocketAddr) -> Result<TcpStream, Failure> {
    let port = address.port();
    let socket = netns.tcp_socket(address).await?;
    socket.connect(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused(port),
        _ => Failure::Connect { port, source },
    })
}

async fn get(stream: TcpStream, path: &str, host: &str) -> Result<(), Failure> {
    let http = |what: String| Failure::Http { path: path.to_owned(), what };
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("skepd/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| http(error.to_string()))?;
    let shaken = http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| http(describe(&error)))?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|error| http(describe(&error)))?;
        match response.status().as_u16() {
            200..=399 => read(response.into_body()).await.map_err(|error| http(describe(&error))),
            status => Err(Failure::Status { path: path.to_owned(), status }),
        }
    };
    match select(pin!(exchange), pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        // It ended, and has handed over all it got.
        Either::Right((_, exchange)) => exchange.await,
    }
}

async fn read(mut body: Incoming) -> Result<(), hyper::Error> {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame?.data_ref().map_or(0, Bytes::len);
        if read > BODY_MAX {
            break;
        }
    }
    Ok(())
}

fn describe(error: &hyper::Error) -> String {
    if error.is_parse_too_large() {
        return format!("the head of the answer is over {} KiB", HEAD_MAX / 1024);
    }
    if error.is_parse() {
        return "the answer is not HTTP/1.1".to_owned();
    }
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    if error.is_incomplete_message() || cause.is_some_and(|cause| cause.kind() == io::ErrorKind::UnexpectedEof) {
        return "the connection ended before the answer did".to_owned();
    }
    crate::agent::in_one_line(error)
}
