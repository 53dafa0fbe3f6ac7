use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tracing::debug;

use super::message::{self, Answered, Key, Reply};
use super::resolv_conf::ResolvConf;

/// How long one server has for its answer before the next is asked.
const TRY_TIMEOUT: Duration = Duration::from_millis(1500);
/// How often the whole list is gone through; resolv.conf(5), `attempts`.
const ROUNDS: usize = 2;
/// In all: just less than what a client's own resolver waits by default (5 s), so that it learns of the failure.
const TOTAL_TIMEOUT: Duration = Duration::from_millis(4500);

/// The longest datagram that is taken.
const RECEIVE_MAX: usize = 4096;

/// Why the outside gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    /// None is configured.
    #[error("the host has no name server: see /etc/resolv.conf")]
    NoServer,
    /// Nobody answered in time.
    #[error("no name server answered within {} ms", TOTAL_TIMEOUT.as_millis())]
    Timeout,
    /// A server could not be reached.
    #[error("name server {server}: {source}")]
    Server {
        /// Which.
        server: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The question cannot be put on the wire.
    #[error("the question cannot be encoded")]
    Encode,
}

/// The host's name servers, asked in the order of the file, the one that answered last first.
#[derive(Debug)]
pub(super) struct Upstream {
    conf: ResolvConf,
    preferred: AtomicUsize,
}

impl Upstream {
    pub(super) fn new(conf: ResolvConf) -> Self {
        Self { conf, preferred: AtomicUsize::new(0) }
    }

    /// Asks until a server knows, or time is up.
    pub(super) async fn ask(&self, key: &Key) -> Result<Reply, UpstreamError> {
        timeout(TOTAL_TIMEOUT, self.ask_all(key)).await.unwrap_or(Err(UpstreamError::Timeout))
    }

    async fn ask_all(&self, key: &Key) -> Result<Reply, UpstreamError> {
        let servers = self.conf.servers();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failure = None;
        let mut error = UpstreamError::NoServer;
        for turn in 0..servers.len() * ROUNDS {
            let index = (first + turn) % servers.len();
            let server = servers[index];
            match ask_one(server, key).await {
                Ok(reply) if reply.is_failure() => failure = Some(reply),
                Ok(reply) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(reply);
                }
                Err(e) => {
                    debug!(%server, error = %e, "No answer.");
                    error = e;
                }
            }
        }
        failure.ok_or(error)
    }
}

async fn ask_one(server: SocketAddr, key: &Key) -> Result<Reply, UpstreamError> {
    let failed = |source| UpstreamError::Server { server, source };
    let id = message::random_id();
    let question = key.ask(id).ok_or(UpstreamError::Encode)?;
    match timeout(TRY_TIMEOUT, over_udp(server, key, id, &question)).await {
        Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        Ok(Err(source)) => Err(failed(source)),
        Ok(Ok(Answered::Whole(reply))) => Ok(reply),
        Ok(Ok(Answered::Truncated)) => match timeout(TRY_TIMEOUT, over_tcp(server, key, id, &question)).await {
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
            Ok(result) => result.map_err(failed),
        },
    }
}

/// A socket of its own for each question: the kernel picks its port at random, and a connected socket takes only what
/// comes from the server. Both together with the id make an answer hard to forge (RFC 5452).
async fn over_udp(server: SocketAddr, key: &Key, id: u16, question: &[u8]) -> io::Result<Answered> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    // Some servers send more than they are asked to.
    let mut buffer = vec![0; RECEIVE_MAX];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if let Some(answered) = key.read_answer(id, &buffer[..len]) {
            return Ok(answered);
        }
    }
}

async fn over_tcp(server: SocketAddr, key: &Key, id: u16, question: &[u8]) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes(), question].concat()).await?;
    let len = stream.read_u16().await?;
    let mut answer = vec![0; len.into()];
    stream.read_exact(&mut answer).await?;
    match key.read_answer(id, &answer) {
        Some(Answered::Whole(reply)) => Ok(reply),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
