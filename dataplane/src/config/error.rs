use std::path::PathBuf;

use crate::cluster::ClusterError;
use crate::model::name;

/// An option that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The node's name is no DNS label.
    #[error("--node-name: {source}")]
    NodeName {
        /// Why.
        #[source]
        source: name::NameError,
    },
    /// The machine does not tell its name.
    #[error("cannot read this machine's host name: give one with --node-name")]
    HostName {
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
    /// A relative path without a current directory.
    #[error("{flag} {}: cannot be made absolute: give an absolute path", path.display())]
    Path {
        /// Which option.
        flag: &'static str,
        /// As given.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is said of etcd does not go together.
    #[error("{what}: {remedy}")]
    Etcd {
        /// What.
        what: String,
        /// The way out.
        remedy: &'static str,
    },
    /// What says which cluster this node is of.
    #[error(transparent)]
    Cluster(#[from] Box<ClusterError>),
    /// A pool too small for what is taken from it.
    #[error("{flag} {pool}: a /{longest} at least is needed: give a shorter prefix")]
    PoolSize {
        /// Which option.
        flag: &'static str,
        /// As given.
        pool: String,
        /// Longest prefix that is enough.
        longest: u8,
    },
    /// Two pools share addresses.
    #[error("{first} {first_pool} and {second} {second_pool} overlap: give two that do not")]
    PoolOverlap {
        /// Which option.
        first: &'static str,
        /// As given.
        first_pool: String,
        /// Which other option.
        second: &'static str,
        /// As given.
        second_pool: String,
    },
}
