use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use dataplane::bpf::BpfError;
use dataplane::egress::EgressError;
use dataplane::manifest::ManifestError;
use dataplane::model::name::NameError;

/// Why a command failed; each says in one line what it is about and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CtlError {
    /// Nobody listens.
    #[error("no skepd at {}: is it running? (start it, or name its socket with --socket or --run-dir)", socket.display())]
    NoDaemon { socket: PathBuf },
    /// The socket belongs to others.
    #[error("permission denied at {}: run as root, or join the group skep (usermod -aG skep $USER, then log in again)", socket.display())]
    Denied { socket: PathBuf },
    /// The connection failed in another way.
    #[error("cannot talk to skepd at {}: {source}", socket.display())]
    Connection {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    /// HTTP went wrong.
    #[error("skepd at {} ended the conversation: {source}; see its log", socket.display())]
    Http {
        socket: PathBuf,
        #[source]
        source: hyper::Error,
    },
    /// The answer is not what this version knows.
    #[error("skepd answered {what} in a way that this skepctl does not understand: {source}; use those of one version")]
    Body {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    /// skepd says no.
    #[error("{error}{}{remedy}", if remedy.is_empty() { "" } else { ": " })]
    Api { error: String, remedy: String },
    /// The compose file says no.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Data would be lost, and nobody is there to ask.
    #[error("volumes would be removed with their data: see which with --dry-run, then say --yes")]
    Unconfirmed,
    /// No compose file to be found.
    #[error("no compose file here: name one with -f, or the project with -p")]
    NoFile,
    /// What people called something.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The maps.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// The firewall.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// No such map.
    #[error("no map is called {name:?}: see `skepctl map list`")]
    NoMap { name: String },
    /// It cannot be listed.
    #[error("{name} cannot be listed: {reason}")]
    NotListed { name: &'static str, reason: &'static str },
    /// No such entry.
    #[error("{map} has no entry {key:?}: see the first column of `skepctl map dump {map}`")]
    NoEntry { map: String, key: String },
    /// Nobody is called so.
    #[error("{what:?} is no {expected}: {}see `skepctl {list}`", suggestion(meant.as_deref()))]
    Unknown { what: String, expected: &'static str, meant: Option<String>, list: &'static str },
    /// A source that the kernel of this node does not know.
    #[error("{what:?} does not run on this node: {}", states.join("; "))]
    NotHere { what: String, states: Vec<String> },
    /// Several are called so.
    #[error("{what:?} is in several environments ({}): say which with -p and -e, or write project/environment/service", found.join(", "))]
    Ambiguous { what: String, found: Vec<String> },
    /// A destination that is none.
    #[error("{what:?}: {reason}; write HOST, HOST:PORT or [IPv6]:PORT, with /udp when it is not TCP")]
    Destination { what: String, reason: &'static str },
    /// There is no address of the family.
    #[error("{what} has no {family} address")]
    Family { what: String, family: &'static str },
    /// The stream ended without its last line.
    #[error("skepd ended the stream early; what is wanted is kept: see `skepctl ps`")]
    Cut,
    /// A stream without an end has ended.
    #[error("skepd at {} stopped or restarts, and the stream ended with it: follow again once it is there (`skepctl drops` does without)", socket.display())]
    Left { socket: PathBuf },
    /// A port of this computer.
    #[error("cannot listen on {at}: {source}; name another one after the service, as in `skepctl forward web:80 8080`")]
    Listen {
        at: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// Both ends of a copy are of the same kind.
    #[error("one of the two must be of a service, and the other of this computer: skepctl cp web:/etc/motd .")]
    Copy,
    /// Nothing takes what is copied in.
    #[error("{path} is no directory: name one that is there, or where in one it is to be")]
    NoDirectory { path: String },
    /// What is copied has no name to keep.
    #[error("{} has no name: give it one in the destination", path.display())]
    Unnamed { path: PathBuf },
    /// A file of this computer.
    #[error("{}: {source}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// skepd says no, in one line.
    #[error("{why}")]
    Refused { why: String },
    /// Typed twice, differently.
    #[error("the two passwords differ: try again")]
    Differ,
    /// It takes too long.
    #[error("not done within {seconds} s; it goes on: see `skepctl ps`")]
    Timeout { seconds: u64 },
    /// A node does not get to its next key.
    #[error(
        "node {node} does not use its next key after {seconds} s; it waits for the nodes named above: bring their skepd \
        back, and it goes on by itself"
    )]
    KeyTimeout { node: String, seconds: u64 },
    /// Some do not serve.
    #[error("not everything came up as asked: see above, and `skepctl ps`")]
    NotServing,
    /// Some finding of the check is an error.
    #[error("{count} finding(s) to mend: see above")]
    Check { count: usize },
    /// Standard output.
    #[error("cannot write: {source}")]
    Output {
        #[from]
        source: io::Error,
    },
}

impl CtlError {
    /// Whether the reader of the output has gone.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output { source } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// As `--help` documents them.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::NoDaemon { .. } | Self::Denied { .. } | Self::Connection { .. } => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        }
    }

    /// Whether the maps may be asked instead.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::NoDaemon { .. } | Self::Connection { .. })
    }
}

/// What was probably meant, for people.
fn suggestion(meant: Option<&str>) -> String {
    meant.map(|meant| format!("did you mean {meant}? If not, ")).unwrap_or_default()
}
