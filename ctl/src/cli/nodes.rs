use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use dataplane::model::Role;

use super::duration;

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
    /// Give a node labels, which constraints of services may ask for, or take them away. Nothing that runs is moved.
    Label {
        /// The node.
        node: String,
        /// KEY=VALUE gives it the label, KEY- takes it away.
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        changes: Vec<LabelChange>,
    },
    /// Say what a node is for. Nothing that runs is moved: `drain` does that.
    Roles {
        /// The node.
        node: String,
        /// All that it is to have: control (it may decide where everything goes), compute (replicas are placed there),
        /// build (for constraints).
        #[arg(required = true, value_delimiter = ',', value_name = "ROLE")]
        roles: Vec<Role>,
    },
    /// Cordon a node, and deploy what runs there anew, on the others; no request is lost. What has volumes there stays.
    Drain {
        /// The node.
        node: String,
    },
    /// Have a node use another WireGuard key, or all of them, one after the other; no connection is lost.
    RotateKey(RotateKeyArgs),
    /// Forget a node that is away for good.
    Remove {
        /// The node.
        node: String,
    },
}

/// What is to become of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LabelChange {
    Set(String, String),
    Remove(String),
}

impl FromStr for LabelChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text.split_once('='), text.strip_suffix('-')) {
            (Some((name, value)), _) => Ok(Self::Set(name.to_owned(), value.to_owned())),
            (None, Some(name)) => Ok(Self::Remove(name.to_owned())),
            (None, None) => Err("write KEY=VALUE to give it, or KEY- to take it away".to_owned()),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RotateKeyArgs {
    /// The node [default: all that are there, one after the other].
    pub(crate) node: Option<String>,
    /// Return as soon as it is accepted.
    #[arg(long, requires = "node")]
    pub(crate) no_wait: bool,
    /// How long to wait for each node, such as 90s or 5m.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_given_or_taken_away() {
        let set = |name: &str, value: &str| Ok(LabelChange::Set(name.into(), value.into()));
        assert_eq!("disk=ssd".parse(), set("disk", "ssd"));
        assert_eq!("zone=a-".parse(), set("zone", "a-"));
        assert_eq!("a=b=c".parse(), set("a", "b=c"));
        assert_eq!("disk-".parse(), Ok(LabelChange::Remove("disk".into())));
        assert!("disk".parse::<LabelChange>().is_err());
    }
}
