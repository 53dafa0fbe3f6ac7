//! The DNS forwarder, `skepd dns`: a process of its own that answers what the kernel passes on.
//!
//! `from_container` answers questions of the zone `internal` by itself. What is left comes here, to the cluster's
//! DNS address: names of the outside, everything over TCP, and forms of a question that the kernel does not parse.
//! Questions of the zone get the kernel's own answer, from the same function over the same maps; the rest goes to the
//! name servers that the host itself uses, if the asker may reach the internet at all: resolving is an egress permission.
//!
//! It runs apart from the daemon, so that names go on resolving while the daemon is killed, restarted or upgraded:
//! [`supervisor`] starts it, a later daemon adopts it. As a unit of its own (`skepd-dns.service`) the service manager
//! starts it, and keeps its sockets from one process to the next, so that no question is lost in between.

mod asker;
mod cache;
mod limits;
mod message;
mod policy;
mod resolv_conf;
mod resolver;
mod serve;
mod sockets;
mod tcp;
mod udp;
mod upstream;

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::config;
use crate::supervisor::{Charge, Instance, InstanceError, Supervisor};

static CHARGE: Charge = Charge {
    name: "dns",
    what: "The DNS forwarder",
    unit: "skepd-dns",
    loss: "Names of the outside do not resolve.",
    keeps_build: false,
    on_demand: false,
};

/// Keeps the forwarder of this daemon running. One that replaces another gets duplicates of its sockets, so that what is
/// queued there is answered by either.
pub fn supervisor(config: &config::Config) -> Supervisor {
    let options: Vec<(&str, OsString)> = vec![
        ("--bpffs", config.bpffs.clone().into()),
        ("--container-pool4", config.container_pool4.to_string().into()),
        ("--vip-pool4", config.vip_pool4.to_string().into()),
        ("--container-pool6", config.container_pool6.to_string().into()),
        ("--vip-pool6", config.vip_pool6.to_string().into()),
    ];
    Supervisor::new(&CHARGE, config, options).with_handover(Arc::new(Config::from(config)))
}

/// What the forwarder is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The cluster's DNS address.
    pub address: Ipv4Addr,
    /// Mark of its sockets, so that `to_container` tells its answers from another process' packets.
    pub mark: u32,
    /// Where the maps are pinned.
    pub bpffs: PathBuf,
    /// Where its pid file is.
    pub run_dir: PathBuf,
    /// The host's name servers, resolv.conf(5).
    pub resolv_conf: PathBuf,
}

impl From<&config::Config> for Config {
    fn from(config: &config::Config) -> Self {
        Self {
            address: config.dns(),
            mark: config::marks::HOST,
            bpffs: config.bpffs.clone(),
            run_dir: config.run_dir.clone(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
        }
    }
}

impl Config {
    fn listen(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, PORT)
    }
}

/// Whether one answers at this address, for root: it hangs up on whoever is no replica, and that it does so at once is
/// what shows that it is there.
///
/// # Errors
/// Why it does not.
pub async fn answers(address: Ipv4Addr, patience: Duration) -> io::Result<()> {
    let hangs_up = async {
        let socket = TcpSocket::new_v4()?;
        // No other process of this machine gets as far.
        setsockopt(&socket, sockopt::Mark, &config::marks::HOST)?;
        let mut connection = socket.connect(SocketAddrV4::new(address, PORT).into()).await?;
        match connection.read(&mut [0]).await {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
            _ => Ok(()),
        }
    };
    tokio::time::timeout(patience, hangs_up).await?
}

/// The port of DNS (RFC 1035 section 4.2).
const PORT: u16 = 53;

/// Why the forwarder cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ForwarderError {
    /// A socket could not be made.
    #[error("{operation} on {address}: {source}: is the address on `lo`, and has skepd been started as root?")]
    Socket {
        /// What failed.
        operation: &'static str,
        /// The DNS address.
        address: SocketAddrV4,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What the daemon handed over is no pair of sockets.
    #[error("file descriptors 3 and 4 are not the DNS sockets of {address}: start the forwarder through skepd")]
    Handed {
        /// The DNS address.
        address: SocketAddrV4,
    },
    /// Another one runs.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Signals cannot be awaited.
    #[error("cannot listen for SIGTERM: {source}")]
    Signal {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Standard output, on which the supervisor waits, is gone, or the service manager's socket.
    #[error("cannot tell who started the forwarder that it is ready: {source}")]
    Ready {
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Serves until SIGTERM or SIGINT, then finishes what it has begun to answer.
///
/// Says "ready" on standard output once it serves, then leaves that alone.
///
/// # Errors
/// [`ForwarderError`] when it cannot begin; once it serves, a failure costs one question only.
pub async fn run(config: Config) -> Result<(), ForwarderError> {
    let instance = Instance::claim(&CHARGE, &config.run_dir)?;
    let listeners = sockets::Listeners::inherited_or_open(&config)?;
    listeners.keep().map_err(|source| ForwarderError::Ready { source })?;
    let stop = |kind| signal(kind).map_err(|source| ForwarderError::Signal { source });
    let (mut terminate, mut interrupt) = (stop(SignalKind::terminate())?, stop(SignalKind::interrupt())?);
    let service = Arc::new(serve::Service::new(&config));
    let udp = tokio::spawn(udp::serve(listeners.udp, Arc::clone(&service)));
    let tcp = tokio::spawn(tcp::serve(listeners.tcp, Arc::clone(&service)));
    instance.ready().map_err(|source| ForwarderError::Ready { source })?;
    info!(address = %config.listen(), "Forwarding names of the outside.");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Whoever replaces this process reads from the same sockets: what is queued there is not lost.
    udp.abort();
    tcp.abort();
    service.finish().await;
    info!("Stopped.");
    Ok(())
}
