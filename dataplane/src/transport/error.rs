use std::io;

use crate::store::StoreError;

/// Why two daemons cannot talk.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Somebody else listens there.
    #[error("cannot listen on TCP port {port} for the other nodes' daemons ({source}): give another --daemon-port")]
    Listen {
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// Its key is that of no node that is there.
    #[error("this is no node of the cluster")]
    Stranger,
    /// The connection.
    #[error(transparent)]
    Connection(#[from] io::Error),
    /// What was said makes no sense with the keys that there are.
    #[error("the other end is not who it should be ({0})")]
    Noise(#[from] snow::Error),
    /// Who the nodes are cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}
