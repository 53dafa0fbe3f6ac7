//! What is about one replica from within.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use dataplane::model::name::{NameError, normalise};

use super::duration;

/// A service, or one replica of it: `web`, `web.2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meant {
    /// Its name in the environment.
    pub(crate) service: String,
    /// The number of the replica.
    pub(crate) replica: Option<u32>,
}

impl FromStr for Meant {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (service, replica) = match text.rsplit_once('.').map(|(service, number)| (service, number.parse())) {
            Some((service, Ok(replica))) => (service, Some(replica)),
            _ => (text, None),
        };
        Ok(Self { service: normalise(service)?, replica })
    }
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// A service, or a replica of it such as web.2 [default: all].
    #[arg(value_name = "SERVICE")]
    pub(crate) service: Option<Meant>,
    /// Go on with what is said from now on, by replicas that come later, too.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only so many lines of each replica.
    #[arg(long, short = 'n', value_name = "LINES")]
    pub(crate) tail: Option<u32>,
    /// Only what was said since, such as 10m or 2h ago.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) since: Option<Duration>,
    /// With the time of each line, in UTC.
    #[arg(long, short)]
    pub(crate) timestamps: bool,
}

#[derive(Debug, Args)]
#[command(after_help = EXEC_HELP)]
pub(crate) struct ExecArgs {
    /// A service, or a replica of it such as web.2 [default: the first that runs, on this node if there is one].
    #[arg(value_name = "SERVICE")]
    pub(crate) service: Meant,
    #[command(flatten)]
    pub(crate) command: CommandArgs,
}

#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
pub(crate) struct RunArgs {
    /// The service whose image, variables, volumes and networks it has.
    pub(crate) service: String,
    #[command(flatten)]
    pub(crate) command: CommandArgs,
}

const RUN_HELP: &str = "\
Nobody is sent to the container: it has no name, and is not among the service's replicas. The image's entrypoint is given \
the command, as `docker compose run` does. What it writes outside of volumes goes with it, and it is on the node that is \
asked. The command gets a terminal if standard input and output are one, and ends skepctl with its own exit status.

  skepctl -p shop run web rake db:migrate
  skepctl -p shop run postgres sh -c 'pg_dump \"$DATABASE_URL\"' >shop.sql";

/// A command, and how it is started.
#[derive(Debug, Args)]
pub(crate) struct CommandArgs {
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
    /// As this user, by name or number, and with this group: USER[:GROUP].
    #[arg(long, short)]
    pub(crate) user: Option<String>,
    /// Start in this directory.
    #[arg(long, short, value_name = "DIRECTORY")]
    pub(crate) workdir: Option<String>,
    /// With this variable, NAME=value; may be given several times.
    #[arg(long, value_name = "VARIABLE")]
    pub(crate) env: Vec<String>,
    /// No terminal, although there is one.
    #[arg(long, short = 'T')]
    pub(crate) no_tty: bool,
}

const EXEC_HELP: &str = "\
The command gets a terminal if standard input and output are one, and ends skepctl with its own exit status.

  skepctl -p shop exec web sh
  skepctl -p shop exec postgres psql -U shop
  skepctl -p shop exec -T postgres pg_dump -U shop shop >shop.sql";

#[derive(Debug, Args)]
#[command(after_help = COPY_HELP)]
pub(crate) struct CopyArgs {
    /// What is copied: a path, or one of a service or a replica such as web.2:/etc/motd.
    #[arg(value_name = "SRC")]
    pub(crate) from: Place,
    /// Where to, in the same way; a directory that is there takes it in.
    #[arg(value_name = "DST")]
    pub(crate) to: Place,
}

const COPY_HELP: &str = "\
One of the two is of a service, the other of this computer, or `-`: a tar archive on standard input or output. A source \
that ends in /. means what is in the directory. Files belong to who calls here, and to root there.

  skepctl -p shop cp web:/app/log .
  skepctl -p shop cp nginx.conf web.2:/etc/nginx/nginx.conf
  skepctl -p shop cp db:/var/lib/app - | zstd >app.tar.zst";

/// Where files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Here(PathBuf),
    There(Meant, String),
    Pipe,
}

impl FromStr for Place {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once(':') {
            _ if text == "-" => Ok(Self::Pipe),
            // What begins like a path is one.
            Some((meant, path)) if !text.starts_with(['.', '/']) => {
                Ok(Self::There(meant.parse()?, format!("/{}", path.trim_start_matches('/'))))
            }
            _ => Ok(Self::Here(text.into())),
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = FORWARD_HELP)]
pub(crate) struct ForwardArgs {
    /// A service or a replica, and its port: web, web:8080, web.2:8080 [default port: the service's].
    #[arg(value_name = "SERVICE[:PORT]")]
    pub(crate) target: Target,
    /// The port of this computer, or an address and one [default: on 127.0.0.1 the same port, or a free one if none is named].
    #[arg(value_name = "LOCAL")]
    pub(crate) local: Option<Local>,
}

const FORWARD_HELP: &str = "\
  skepctl -p shop forward postgres:5432 15432     then: psql -h 127.0.0.1 -p 15432 -U shop
  skepctl -p shop forward web:8080 0.0.0.0:80     anybody who reaches this computer reaches it";

/// What is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) meant: Meant,
    pub(crate) port: Option<u16>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (meant, port) = match text.rsplit_once(':') {
            Some((meant, port)) => (meant, Some(self::port(port)?)),
            None => (text, None),
        };
        Ok(Self { meant: meant.parse().map_err(|error: NameError| error.to_string())?, port })
    }
}

/// Where it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
}

impl FromStr for Local {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { address: address.ip(), port: address.port() });
        }
        Ok(Self { address: Ipv4Addr::LOCALHOST.into(), port: port(text)? })
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("{text:?} is no port: write a number up to 65535"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_service_or_a_replica_with_or_without_a_port() {
        let meant = |service: &str, replica| Meant { service: service.to_owned(), replica };
        let cases = [
            ("web", meant("web", None), None),
            ("My_Web.2", meant("my-web", Some(2)), None),
            ("web:80", meant("web", None), Some(80)),
            ("web.3:80", meant("web", Some(3)), Some(80)),
        ];
        for (text, meant, port) in cases {
            assert_eq!(text.parse(), Ok(Target { meant, port }), "{text}");
        }
        assert!("web:http".parse::<Target>().is_err() && "".parse::<Target>().is_err());
    }

    #[test]
    fn a_place_is_here_or_of_a_service() {
        let there = |service: &str, replica, path: &str| {
            Place::There(Meant { service: service.to_owned(), replica }, path.to_owned())
        };
        assert_eq!("web:/etc/motd".parse(), Ok(there("web", None, "/etc/motd")));
        assert_eq!("web.2:etc".parse(), Ok(there("web", Some(2), "/etc")));
        for here in ["./web:x", "/web:x", "web", "a/b"] {
            assert_eq!(here.parse(), Ok(Place::Here(here.into())), "{here}");
        }
        assert_eq!("-".parse(), Ok(Place::Pipe));
    }

    #[test]
    fn this_end_is_loopback_unless_an_address_is_given() {
        let local = |address: &str, port| Local { address: address.parse().unwrap(), port };
        assert_eq!("8080".parse(), Ok(local("127.0.0.1", 8080)));
        assert_eq!("0.0.0.0:80".parse(), Ok(local("0.0.0.0", 80)));
        assert_eq!("[::1]:80".parse(), Ok(local("::1", 80)));
        assert!("localhost".parse::<Local>().is_err());
    }
}
