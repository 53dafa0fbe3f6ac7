use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

mod environment;
mod inside;
mod nodes;
mod secrets;

pub(crate) use environment::{ConfigArgs, DownArgs, FileArgs, PruneArgs, UpArgs};
pub(crate) use inside::{CommandArgs, CopyArgs, ExecArgs, ForwardArgs, Local, LogsArgs, Meant, Place, RunArgs};
pub(crate) use nodes::{LabelChange, NodesArgs, NodesCommand, RotateKeyArgs};
pub(crate) use secrets::{RegistryArgs, RegistryCommand, SecretsArgs, SecretsCommand};

/// Private networks for the containers of this machine: bring environments up, see who reaches whom, and why not.
#[derive(Debug, Parser)]
#[command(name = "skepctl", version, after_help = AFTER_HELP, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  skepctl up -f compose.yaml -p shop              the services of a compose file, in a network of their own
  skepctl ps -p shop                              what runs where
  skepctl why api postgres:5432 -p shop           does it get there, and if not, why
  skepctl monitor --drops                         what is dropped now, and why
  skepctl map dump SERVICES                       what the kernel knows, skepd running or not

Exit status:
  0  done; `why`: it gets there
  1  refused or failed; the reason and the way out are on standard error
  2  wrong usage
  3  skepd cannot be reached
  4  `why`: it does not get there";

/// Where to ask, about what, and how to show it.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The project; lists show all of them unless it is given [default for the rest: COMPOSE_PROJECT_NAME of the
    /// environment or .env, else the compose file's name or its directory's].
    #[arg(long, short, global = true, env = "SKEP_PROJECT", value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// The environment; lists show all of them unless it is given [default for the rest: production].
    #[arg(long, short, global = true, env = "SKEP_ENVIRONMENT", value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// skepd's socket [default: skepd.sock in the run directory].
    #[arg(long, global = true, env = "SKEP_SOCKET", value_name = "FILE")]
    pub(crate) socket: Option<PathBuf>,
    /// skepd's run directory [default: the socket's, else /run/skep].
    #[arg(long, global = true, env = "SKEP_RUN_DIR", value_name = "DIR")]
    pub(crate) run_dir: Option<PathBuf>,
    /// Where the maps are pinned [default: what skepd left in the run directory, else /sys/fs/bpf/skep].
    #[arg(long, global = true, env = "SKEP_BPFFS", value_name = "DIR")]
    pub(crate) bpffs: Option<PathBuf>,
    /// A table for people or JSON for programs.
    #[arg(long, short, global = true, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    /// Colours; `auto`: on a terminal, unless NO_COLOR is set.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

/// How to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Whether to colour it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal.
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an environment what a compose file says.
    Up(UpArgs),
    /// Show the compose files as one: put together, with the values of variables, without what is left out.
    Config(ConfigArgs),
    /// Take an environment away; what it stored stays unless --volumes is given.
    Down(DownArgs),
    /// Remove what nothing needs any more: old deployments, and images that were pulled for them alone.
    Prune(PruneArgs),
    /// Deploy a service anew: with another image, or the same again.
    Deploy(DeployArgs),
    /// Deploy an older version of a service again, from the very image that it had.
    Rollback(RollbackArgs),
    /// Change the number of a service's replicas.
    Scale(ScaleArgs),
    /// Stop services; names and addresses stay, and `start` brings back as many replicas as there were.
    Stop(ServicesArgs),
    /// Start services that were stopped.
    Start(ServicesArgs),
    /// Start services anew, as a deployment of the same: no request is lost.
    Restart(ServicesArgs),
    /// Remove services from an environment, as if its file did not say them any more; what they stored stays.
    Rm(RmArgs),
    /// Deployments: the last one of each service, and the one that serves.
    Deployments,
    /// Every deployment that is remembered, and what became of it.
    History(HistoryArgs),
    /// Runs of services with a schedule: what became of them, and when the next one is due.
    Runs(HistoryArgs),
    /// Generated credentials: who has which, and their change.
    Secrets(SecretsArgs),
    /// Registries that ask who pulls: logins, for every node.
    Registry(RegistryArgs),
    /// What became of deployments and runs, and with -f every step and every replica as it happens, until Ctrl-C.
    Events(EventsArgs),
    /// What replicas say, in the order of time; with -f also what they say from now on, until Ctrl-C.
    Logs(LogsArgs),
    /// Run a command in a replica, with your terminal if there is one.
    Exec(ExecArgs),
    /// Run a command in a container of its own, like those of a service: beside them, and gone when the command ends.
    Run(RunArgs),
    /// Copy files out of a replica or into it.
    Cp(CopyArgs),
    /// Reach a port of a replica from here, which nobody else can, until Ctrl-C.
    Forward(ForwardArgs),
    /// Nodes: how they stand, and the tunnels between them; cordon, drain, remove, other keys.
    Nodes(NodesArgs),
    /// Replicas: state, node, addresses, containers.
    Ps,
    /// All that is known of one service, as JSON: what it is to be, its addresses, names, versions and replicas.
    Inspect {
        /// Which.
        service: String,
    },
    /// Services: VIPs, replicas, deployment.
    Services,
    /// Endpoints: addresses, veths, networks (from the maps when skepd is dead).
    Endpoints,
    /// Names and what they resolve to (from the maps when skepd is dead).
    Names,
    /// What was dropped, whose, why, and what to do about it (from the maps).
    Drops(DropsArgs),
    /// Connects and drops as they happen, with names, until Ctrl-C.
    Monitor(MonitorArgs),
    /// Whether SRC reaches DST: what the kernel's own decision says about it, over the maps as they are.
    Why(WhyArgs),
    /// The kernel maps, decoded; works with skepd dead.
    Map(MapArgs),
    /// What this machine lacks, each with its remedy.
    Check,
    /// Completions for a shell: `source <(skepctl completions bash)`.
    Completions {
        /// Which.
        shell: Shell,
    },
    /// Print man pages and completions as JSON, file by file.
    #[command(hide = true)]
    Documents,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Print the operations as they would be executed; change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Wait until it is done (the default).
    #[arg(long, overrides_with = "no_wait")]
    pub(crate) wait: bool,
    /// Return as soon as it is accepted.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait, such as 90s or 5m.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// The service.
    pub(crate) service: String,
    /// The image to deploy [default: the one it has].
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The service.
    pub(crate) service: String,
    /// The deployment to go back to [default: the last that served before the one that does].
    #[arg(long, value_name = "DEPLOYMENT")]
    pub(crate) to: Option<u32>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// The service.
    pub(crate) service: String,
    /// How many.
    pub(crate) replicas: u32,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServicesArgs {
    /// The services [default: all of the environment].
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// The services; `skepctl down` takes away all of them.
    #[arg(required = true, value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Of this service only.
    pub(crate) service: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with what happens from now on.
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DropsArgs {
    /// Every reason there is, counted or not, and what tells nobody anything: kernels' reports of their multicast groups.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
#[command(after_help = MONITOR_HELP)]
pub(crate) struct MonitorArgs {
    /// Only drops.
    #[arg(long, conflicts_with = "connects")]
    pub(crate) drops: bool,
    /// Only connects.
    #[arg(long)]
    pub(crate) connects: bool,
}

const MONITOR_HELP: &str = "\
A connect is a socket that was sent from a service's virtual address to one of its replicas. Drops for one reason are \
shown ten times a second at most for each service and CPU, and kernels' reports of their multicast groups never: \
`skepctl drops` (--all) has their number. With -o json: one object \
per line.";

#[derive(Debug, Args)]
#[command(after_help = WHY_HELP)]
pub(crate) struct WhyArgs {
    /// Who sends: a service or replica.
    #[arg(value_name = "SRC")]
    pub(crate) source: String,
    /// Who receives: a service, name, replica or any address, with a port unless it is a ping.
    #[arg(value_name = "DST[:PORT][/tcp|/udp|/icmp]")]
    pub(crate) destination: String,
    /// Prefer IPv6 for what has both addresses.
    #[arg(short = '6', long)]
    pub(crate) ipv6: bool,
}

const WHY_HELP: &str = "\
SRC and DST are one of
  api                         a service, in -p/-e or, when only one is called so, anywhere
  api.2                       its second replica (SRC: the first one unless told)
  shop/production/api         a service of another environment
  api.production.shop.internal, or any name that SRC's environment resolves
  10.208.0.5, fd53:…, 1.1.1.1, [2606:4700::1111]
  4f5a1c…                     a container id, 6 digits at least
TCP unless told otherwise; without a port: a ping.";

#[derive(Debug, Args)]
pub(crate) struct MapArgs {
    #[command(subcommand)]
    pub(crate) command: MapCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MapCommand {
    /// The maps: what they hold, how full they are.
    List,
    /// Every entry of a map.
    Dump {
        /// Which; see `map list`.
        name: String,
    },
    /// One entry of a map.
    Get {
        /// Which; see `map list`.
        name: String,
        /// As the first column of `map dump` shows it.
        key: String,
    },
}

/// `90s`, `5m`, `2h`, or seconds alone.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(format!("{unit:?} is no unit of time: use s, m or h")),
    };
    let number: u64 = number.parse().map_err(|_| "use a number with s, m or h, such as 90s".to_owned())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| "that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_coherent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_hold_after_the_subcommand() {
        let cli = Cli::try_parse_from(["skepctl", "ps", "-p", "shop", "-e", "staging", "-o", "json"]).unwrap();
        assert_eq!(cli.global.project.as_deref(), Some("shop"));
        assert_eq!(cli.global.output, Format::Json);
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert!(duration("5 parsecs").is_err());
        assert!(duration("m").is_err());
    }
}
