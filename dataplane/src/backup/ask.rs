//! The running daemon gives its store as of one revision.

use std::path::Path;

use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::BackupError;
use crate::store::Snapshot;

/// Whether a daemon listens there.
pub(crate) async fn is_served(socket: &Path) -> bool {
    UnixStream::connect(socket).await.is_ok()
}

/// Its store.
///
/// # Errors
/// [`BackupError::Ask`].
pub(super) async fn snapshot(socket: &Path) -> Result<Snapshot, BackupError> {
    let failed = |reason: String| BackupError::Ask { path: socket.to_owned(), reason };
    let stream = UnixStream::connect(socket).await.map_err(|error| failed(error.to_string()))?;
    let http = |error: hyper::Error| failed(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    // It ends with the answer's last byte; what goes wrong with it, the answer tells.
    tokio::spawn(connection);
    let request = Request::get("/v1/snapshot").header("host", "skepd").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| failed(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(http)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(http)?.to_bytes();
    if !status.is_success() {
        return Err(failed(format!("{status}: {}", String::from_utf8_lossy(&body))));
    }
    Snapshot::decode(&body).map_err(|error| failed(error.to_string()))
}
