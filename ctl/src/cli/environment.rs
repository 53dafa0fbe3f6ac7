//! What is about an environment as a whole.

use std::path::PathBuf;

use clap::Args;

use super::WaitArgs;

#[derive(Debug, Default, Args)]
pub(crate) struct FileArgs {
    /// A compose file; given several times, each one changes what the ones before say [default: COMPOSE_FILE of the
    /// environment or .env, else compose.yaml, compose.yml, docker-compose.yml or docker-compose.yaml here or above, with
    /// its override file].
    #[arg(long = "file", short, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Services of this profile, too; `*`: of all [default: COMPOSE_PROFILES of the environment or .env].
    #[arg(long = "profile", value_name = "NAME", value_delimiter = ',')]
    pub(crate) profiles: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// Only say what is wrong.
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Only the names of the services.
    #[arg(long)]
    pub(crate) services: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// With its named volumes, and the generated credentials that open what is in them. Nothing brings them back. What an
    /// earlier `down` has kept is removed, too.
    #[arg(long)]
    pub(crate) volumes: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Args)]
#[command(after_help = PRUNE_HELP)]
pub(crate) struct PruneArgs {
    /// Print what would be removed; remove nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// So many deployments of each service stay, beside the one that serves and the one to go back to [default: 10].
    #[arg(long, value_name = "DEPLOYMENTS")]
    pub(crate) keep: Option<u32>,
    /// With the volumes and credentials of environments that are gone. Nothing brings them back.
    #[arg(long)]
    pub(crate) volumes: bool,
    /// Do not ask before volumes are removed.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

const PRUNE_HELP: &str = "\
It removes no image that somebody else has pulled, built or loaded, and none that a container uses. What an environment \
has stored stays when it is taken away with `skepctl down`: --volumes removes that of all that are gone, `skepctl down \
--volumes` that of one.";
