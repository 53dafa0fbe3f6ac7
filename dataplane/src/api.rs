//! HTTP/JSON over a Unix socket: how people's intent gets in and how what happens gets out.
//!
//! Nothing of a client is trusted: a body is checked here again ([`validate`]), whoever checked it before.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::{UnixListener, UnixStream};
use tracing::info;

mod activity;
pub mod channels;
mod copies;
mod error;
mod events;
mod files;
mod inside;
mod inspect;
mod intent;
mod invitations;
mod leave;
mod logs;
mod monitor;
mod nodes;
mod one_offs;
mod openapi;
mod prune;
mod registries;
mod relay;
mod routes;
mod rows;
mod runs;
mod secrets;
mod stream;
pub mod types;
mod validate;

pub use openapi::document;
pub use relay::serve as relayed;

use crate::agent::Observer;
use crate::cluster::Door;
use crate::config::Config;
use crate::install::GROUP;
use crate::model::NodeRecord;
use crate::monitor::Monitor;
use crate::secrets::Secrets;
use crate::store::Store;
use crate::transport::Transport;

/// What the API works on.
#[derive(Clone)]
pub struct Api {
    /// Where intent is written to and all else is read from.
    pub store: Arc<dyn Store>,
    /// Credentials of databases.
    pub secrets: Arc<Secrets>,
    /// For dry runs: what there is on this node.
    pub observer: Arc<Observer>,
    /// For followers: what the programs tell.
    pub monitor: Arc<Monitor>,
    /// Where machines become nodes, if they do here.
    pub door: Option<Arc<Door>>,
    /// How the other nodes' daemons are asked; none on a node that is alone.
    pub transport: Option<Arc<Transport>>,
    /// This node.
    pub node: NodeRecord,
    /// How this daemon runs.
    pub config: Arc<Config>,
}

/// Who is at the other end: the user id, as the kernel tells it.
#[derive(Debug, Clone, Copy)]
struct Peer(Option<u32>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok().map(|peer| peer.uid()))
    }
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Another daemon answers there.
    #[error("another skepd serves {}: stop that one, or give this one its own --run-dir", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The socket could not be made.
    #[error("cannot {operation} the socket {}: is the run directory writable?", path.display())]
    Socket {
        /// What failed.
        operation: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The API's socket, for root and the group `skep`. A socket that nobody serves any more is replaced.
///
/// # Errors
/// [`ApiError::InUse`] when somebody does.
pub async fn listen(path: &Path) -> Result<UnixListener, ApiError> {
    let failed = |operation| move |source| ApiError::Socket { operation, path: path.to_owned(), source };
    if UnixStream::connect(path).await.is_ok() {
        return Err(ApiError::InUse { path: path.to_owned() });
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("replace")(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed("make"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed("set the mode of"))?;
    if let Ok(Some(group)) = nix::unistd::Group::from_name(GROUP) {
        nix::unistd::chown(path, None, Some(group.gid)).map_err(|errno| failed("set the group of")(errno.into()))?;
    }
    Ok(listener)
}

/// Serves for as long as it is polled.
///
/// # Errors
/// [`ApiError::Socket`] when the socket breaks.
pub async fn serve(listener: UnixListener, api: Api) -> Result<(), ApiError> {
    let path = api.config.socket();
    one_offs::sweep(&api).await;
    info!(socket = %path.display(), "Ready.");
    let served = axum::serve(listener, routes::router(api).into_make_service_with_connect_info::<Peer>()).await;
    served.map_err(|source| ApiError::Socket { operation: "serve", path, source })
}
