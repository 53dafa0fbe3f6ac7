//! Several machines become one cluster, which shares an etcd: the first one makes it, each other one is invited.
//!
//! `skepd cluster init` makes an authority ([`authority`]), runs a member of etcd that lets nobody in without a certificate
//! ([`member`]), moves the node's state there ([`migrate`]), and makes itself the first node. `skepctl nodes invite` there
//! gives a token ([`token`]), good once; `skepd join` asks with it ([`talk`]) at the node's door ([`Door`]), and is given the
//! cluster's key and a certificate for a key that it made itself. What makes a machine a node of the cluster is in files of
//! its state directory ([`files`]), which the daemon reads at its start.
//!
//! The authority's key is on the first node alone, and in no backup: without it nobody can be let in, with it anybody can.

mod authority;
mod door;
mod error;
mod files;
mod init;
mod join;
mod member;
mod migrate;
mod pause;
mod reach;
mod talk;
mod token;
mod users;

pub use door::Door;
pub use error::ClusterError;
pub use files::Cluster;
pub(crate) use files::Files;
pub use init::init;
pub use join::join;
pub(crate) use migrate::fill;
pub(crate) use reach::store;
pub use token::Token;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::model::Pools;

/// Whether the cluster's etcd is on this machine.
pub fn keeps_etcd(config: &Config) -> bool {
    Files::of(&config.state_dir).member_data().exists()
}

/// What a node that wants to join says of itself.
#[derive(Serialize, Deserialize)]
struct Question {
    /// Its name, normalised.
    node: String,
    /// They have to be those of the cluster.
    pools: Pools,
    /// Its public key, base64: an uncompressed point of P-256.
    key: String,
}

/// What it is told.
#[derive(Serialize, Deserialize)]
enum Answer {
    /// It may.
    Welcome(Welcome),
    /// It may not, and why; the token is good still.
    Refused(String),
}

/// What makes it a node.
#[derive(Serialize, Deserialize)]
struct Welcome {
    /// Where etcd is.
    cluster: Cluster,
    /// The authority's certificate (PEM).
    ca: String,
    /// Its own (PEM).
    certificate: String,
    /// What secrets are sealed with.
    key: String,
}
