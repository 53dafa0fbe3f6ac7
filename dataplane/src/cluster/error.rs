use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::daemon::DaemonError;
use crate::private::PrivateFileError;
use crate::random::RandomError;
use crate::store::{ClusterKeyError, SealedError, StoreError};

/// Why a node does not become one of a cluster, or nobody is let in.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// It is of one.
    #[error("this node is of a cluster already ({}): `skepctl nodes invite` lets another one in", path.display())]
    Already {
        /// What says so.
        path: PathBuf,
    },
    /// Where the state is was told by hand.
    #[error(
        "this skepd was told its etcd (--etcd, SKEP_ETCD): take that away, or go on without `skepd cluster` and `join`"
    )]
    Told,
    /// Something is there, and no cluster.
    #[error("{} is left of a cluster that was begun or is damaged: move it away if nothing of it is needed", path.display())]
    Leftover {
        /// The directory.
        path: PathBuf,
    },
    /// A daemon runs that is no unit.
    #[error("skepd serves {}: stop it first (systemctl stop skepd, or kill its process); what runs goes on", path.display())]
    Running {
        /// Its socket.
        path: PathBuf,
    },
    /// The new node has work of its own.
    #[error(
        "{environments} environment(s) run on this node, and would be nobody's in the cluster: `skepctl down` them, or let \
        this node be the first (`skepd cluster init`) and the others join it"
    )]
    NotEmpty {
        /// How many.
        environments: usize,
    },
    /// No address of this machine is known.
    #[error("this machine has no address that others could reach it by: give one with --node-address")]
    NoAddress,
    /// There is no etcd.
    #[error("cannot start {}: {source}: apt install etcd-server, or give its path with --etcd-program", path.display())]
    Program {
        /// What was to be run.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// etcd ended, or did not answer.
    #[error("etcd {what}; {} says why", log.display())]
    Silent {
        /// What it did.
        what: String,
        /// Where its own words are.
        log: PathBuf,
    },
    /// What is no token, or was copied in part.
    #[error("this is no token, or not the whole of one: `skepctl nodes invite` on a node of the cluster prints one")]
    Token,
    /// Who is to be asked does not answer.
    #[error(
        "cannot reach {address}, where the token is from: {source}: was it used, or has it expired (`skepctl nodes invite` \
        makes another one)? does skepd run there, and does a firewall let TCP port {} through?", address.port()
    )]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Who was asked has hung up, or is somebody else.
    #[error("{0}: the token may have been used, or have expired: make another one with `skepctl nodes invite`")]
    Talk(String),
    /// Who was asked says no.
    #[error("{0}")]
    Refused(String),
    /// This node lets nobody in.
    #[error("{what}: {remedy}")]
    NoDoor {
        /// Why.
        what: String,
        /// The way out.
        remedy: String,
    },
    /// Nobody could ask.
    #[error("cannot listen on {address} for nodes that join: {source}: give another port with --join-port")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What says which cluster this is.
    #[error("{} is damaged ({source}): take the node out (`skepctl nodes remove` on another one) and have it join anew", path.display())]
    Record {
        /// Which.
        path: PathBuf,
        /// How.
        #[source]
        source: serde_json::Error,
    },
    /// Its directories.
    #[error(transparent)]
    Directories(Box<DaemonError>),
    /// A file of the cluster's.
    #[error(transparent)]
    PrivateFile(#[from] PrivateFileError),
    /// The daemon's unit.
    #[error("cannot {operation} skepd.service: {source}")]
    Unit {
        /// What failed.
        operation: &'static str,
        /// What systemctl says.
        #[source]
        source: io::Error,
    },
    /// A certificate.
    #[error("no certificate can be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// etcd's users.
    #[error("etcd: {0}")]
    Etcd(#[source] Box<etcd_client::Error>),
    /// No token can be made.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The key that secrets are sealed with.
    #[error(transparent)]
    Key(#[from] ClusterKeyError),
    /// An invitation.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<etcd_client::Error> for ClusterError {
    fn from(error: etcd_client::Error) -> Self {
        Self::Etcd(Box::new(error))
    }
}

impl From<snow::Error> for ClusterError {
    fn from(_: snow::Error) -> Self {
        Self::Talk("the other side does not know the token's secret".into())
    }
}

impl From<io::Error> for ClusterError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Talk("the other side hung up".into()),
            _ => Self::Talk(error.to_string()),
        }
    }
}
