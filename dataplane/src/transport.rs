//! Connections between the daemons of a cluster's nodes, for what has to be done where a replica is.
//!
//! `Noise_IK_25519_ChaChaPoly_SHA256` of the Noise Protocol Framework (revision 34) over TCP. A daemon makes its key when it
//! starts, keeps it in memory alone, and tells the public part in the store under the lease that says that it is there
//! ([`Presence`]). So there is nothing to rotate or to revoke: whose node was removed, and whose daemon has ended, is heard
//! by nobody, and whoever cannot write to the store is not, either. They hear nothing, and nothing that comes before both
//! ends are known to each other has any effect.

mod channel;
mod error;
pub(crate) mod frame;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use snow::{Builder, Keypair};
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

pub use error::TransportError;

use crate::model::{DaemonRecord, Presence};
use crate::store::{Store, schema};

const PATTERN: &str = "Noise_IK_25519_ChaChaPoly_SHA256";
/// What is said before, and by which version.
const PROLOGUE: &[u8] = b"skep node 1";
/// Whoever has not said who they are until then is not heard, and whoever has not answered is away.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// This daemon's end of all connections.
pub struct Transport {
    key: Keypair,
    listener: TcpListener,
    port: u16,
}

impl Transport {
    /// Makes a key, and listens on all addresses of this machine.
    ///
    /// # Errors
    /// [`TransportError::Listen`]: the port is taken.
    pub async fn listen(port: u16) -> Result<Self, TransportError> {
        let any = |address: IpAddr| TcpListener::bind((address, port));
        let bound = match any(Ipv6Addr::UNSPECIFIED.into()).await {
            // A machine without IPv6.
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => any(Ipv4Addr::UNSPECIFIED.into()).await,
            bound => bound,
        };
        let listener = bound.map_err(|source| TransportError::Listen { port, source })?;
        Ok(Self { key: builder()?.generate_keypair()?, listener, port })
    }

    /// What others have to know of it.
    pub fn record(&self) -> DaemonRecord {
        DaemonRecord { port: self.port, key: STANDARD.encode(&self.key.public) }
    }

    /// Connects to the daemon of a node that is at this address.
    ///
    /// # Errors
    /// [`TransportError`] when nobody answers there, or somebody else does.
    pub async fn connect(&self, address: IpAddr, daemon: &DaemonRecord) -> Result<DuplexStream, TransportError> {
        let theirs = STANDARD.decode(&daemon.key).map_err(io::Error::other)?;
        let address = SocketAddr::new(address, daemon.port);
        let handshake = async {
            let mut stream = TcpStream::connect(address).await?;
            let mut handshake =
                builder()?.local_private_key(&self.key.private)?.remote_public_key(&theirs)?.build_initiator()?;
            frame::send(&mut stream, &channel::write(&mut handshake)?).await?;
            channel::read(&mut handshake, &frame::receive(&mut stream).await?)?;
            channel::open(stream, handshake)
        };
        timeout(PATIENCE, handshake).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Waits for somebody who connects. Nothing is known of them yet.
    ///
    /// # Errors
    /// [`TransportError`] when the kernel refuses.
    pub async fn accept(&self) -> Result<TcpStream, TransportError> {
        Ok(self.listener.accept().await?.0)
    }

    /// Hears who somebody is: the node, and the connection to its daemon.
    ///
    /// # Errors
    /// [`TransportError`] for whoever is no node that is there.
    pub async fn hear(&self, stream: TcpStream, store: &dyn Store) -> Result<(String, DuplexStream), TransportError> {
        timeout(PATIENCE, self.answer(stream, store)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn answer(&self, mut stream: TcpStream, store: &dyn Store) -> Result<(String, DuplexStream), TransportError> {
        let mut handshake = builder()?.local_private_key(&self.key.private)?.build_responder()?;
        channel::read(&mut handshake, &frame::receive(&mut stream).await?)?;
        let theirs = handshake.get_remote_static().map(|key| STANDARD.encode(key)).ok_or(TransportError::Stranger)?;
        let node = node_of(store, &theirs).await?.ok_or(TransportError::Stranger)?;
        frame::send(&mut stream, &channel::write(&mut handshake)?).await?;
        Ok((node, channel::open(stream, handshake)?))
    }
}

/// Whose daemon has this key.
async fn node_of(store: &dyn Store, key: &str) -> Result<Option<String>, TransportError> {
    let range = store.range(schema::presences().as_str()).await?;
    for entry in &range.entries {
        let presence: Presence = schema::decode(entry)?.value;
        if presence.daemon.is_some_and(|daemon| daemon.key == key)
            && let Some(schema::Subject::Presence(node)) = schema::Subject::of(&entry.key)
        {
            return Ok(Some(node));
        }
    }
    Ok(None)
}

fn builder<'a>() -> Result<Builder<'a>, TransportError> {
    Ok(Builder::new(PATTERN.parse()?).prologue(PROLOGUE)?)
}
