use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::{debug, error, warn};

use super::limits::Limits;
use super::serve::{Service, Transport};
use super::sockets;

/// Connections at once.
const CONNECTIONS_MAX: usize = 256;
/// Connections of one replica at once.
const CLIENT_MAX: usize = 16;
/// How long a connection may be silent (RFC 7766 section 6.2.3: seconds), and how long a peer may take to read.
const IDLE: Duration = Duration::from_secs(10);
/// Pause after a failed accept, which repeats at once when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers what comes over TCP, until aborted.
pub(super) async fn serve(socket: OwnedFd, service: Arc<Service>) {
    let listener = match TcpListener::from_std(socket.into()) {
        Ok(listener) => listener,
        Err(error) => return error!(%error, "Cannot serve DNS over TCP."),
    };
    let limits = Limits::new(CONNECTIONS_MAX, CLIENT_MAX);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "Cannot accept a DNS connection.");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let IpAddr::V4(address) = peer.ip() else { continue };
        // Without room the connection is closed, which makes the client try again.
        let Some(permit) = limits.take(address) else { continue };
        let service_of_task = Arc::clone(&service);
        service.begin(async move {
            if let Err(error) = connection(stream, address, &service_of_task).await {
                debug!(%peer, %error, "A DNS connection ended early.");
            }
            drop(permit);
        });
    }
}

/// One question after the other: clients that pipeline get their answers in order (RFC 7766 section 6.2.1.1).
async fn connection(mut stream: TcpStream, address: Ipv4Addr, service: &Arc<Service>) -> io::Result<()> {
    let ifindex = sockets::stream_ifindex(stream.as_fd())?;
    // A stranger's connection is not even waited for.
    if service.asker(ifindex, address).is_none() {
        return Ok(());
    }
    loop {
        let len = match timeout(IDLE, stream.read_u16()).await {
            Err(_) => return Ok(()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(len) => len?,
        };
        let mut question = vec![0; len.into()];
        timeout(IDLE, stream.read_exact(&mut question)).await??;
        // As things are now: the connection may be old.
        let Some(asker) = service.asker(ifindex, address) else { return Ok(()) };
        let Some(answer) = service.answer(&asker, &question, Transport::Tcp).await else {
            return Ok(());
        };
        let len = u16::try_from(answer.len()).map_err(io::Error::other)?;
        timeout(IDLE, stream.write_all(&[&len.to_be_bytes(), answer.as_slice()].concat())).await??;
    }
}
