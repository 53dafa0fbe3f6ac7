//! What is about passwords.

use clap::{Args, Subcommand};

use super::WaitArgs;

#[derive(Debug, Args)]
pub(crate) struct SecretsArgs {
    #[command(subcommand)]
    pub(crate) command: SecretsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// What there is, and in which variables services get it; no value is shown.
    List,
    /// Give a database a new password, and deploy anew whoever gets it as a variable.
    Rotate {
        /// The database.
        service: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// The same with a password of your own, typed or read from standard input: `pass show db | skepctl secrets set db`.
    Set {
        /// The database.
        service: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    #[command(subcommand)]
    pub(crate) command: RegistryCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Which there are; no password is shown.
    List,
    /// Pull from a registry as a user; the password or token is typed, or read from standard input:
    /// `gh auth token | skepctl registry login ghcr.io -u me`.
    Login {
        /// As names of images begin: ghcr.io, registry.example:5000; docker.io is Docker Hub.
        registry: String,
        /// Whom it knows.
        #[arg(long, short)]
        user: String,
    },
    /// Forget a login.
    Logout {
        /// The registry.
        registry: String,
    },
}
