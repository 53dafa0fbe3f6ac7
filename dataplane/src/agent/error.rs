use crate::bpf::BpfError;
use crate::docker::DockerError;
use crate::egress::EgressError;
use crate::netlink::NetlinkError;
use crate::store::StoreError;
use crate::wireguard::WireguardError;

/// What kept the agent from looking at this node, or from an op.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A secret.
    #[error(transparent)]
    Secrets(#[from] crate::secrets::SecretsError),
    /// Docker.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// Links, addresses, routes.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The tunnels to other nodes.
    #[error(transparent)]
    Wireguard(#[from] WireguardError),
    /// Maps and programs.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// Firewall rules.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is older than what runs.
    #[error(
        "the store knows nothing of what runs here ({}); nothing is touched: stop skepd, then `skepd repair` takes it back \
        and `skepd repair --forget` has it removed", replicas.join(", ")
    )]
    Unknown {
        /// What runs.
        replicas: Vec<String>,
    },
    /// An image's name was given to another one meanwhile.
    #[error("the image {image} changed while a container was made of it; it is made again")]
    Moved {
        /// Its name.
        image: String,
    },
    /// A container that an op builds on is gone.
    #[error("the {what} of the replica is gone: it was removed by somebody else; it is made again")]
    Gone {
        /// Which part.
        what: &'static str,
    },
}

/// An error with what caused it in one line; causes that the error itself names already are not repeated.
pub fn in_one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line.replace('\n', " ")
}
