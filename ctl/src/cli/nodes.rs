use std::time::Duration;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    #[command(subcommand)]
    pub(crate) command: Option<NodesCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodesCommand {
    /// Which there are, how they stand, and what went through the tunnels (the default).
    List,
    /// Let another machine become a node: prints what to call there. The first node of a cluster does; as root.
    Invite {
        /// How long the token is good, once: `90s`, `15m`, `1h`.
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = super::duration)]
        within: Duration,
    },
    /// Place no new replica on a node.
    Cordon {
        /// The node.
        node: String,
    },
    /// Place replicas on a node again.
    Uncordon {
        /// The node.
        node: String,
    },
    /// Cordon a node, and deploy what runs there anew, on the others; no request is lost. What has volumes there stays.
    Drain {
        /// The node.
        node: String,
    },
    /// Forget a node that is away for good.
    Remove {
        /// The node.
        node: String,
    },
}
