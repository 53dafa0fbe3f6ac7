use std::io;
use std::path::PathBuf;

/// What the kernel refused, and for which object.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No netlink socket.
    #[error("cannot open a netlink socket: run skepd as root")]
    Socket(#[source] io::Error),
    /// A request failed.
    #[error("cannot {operation} {object}")]
    Request {
        /// A verb, such as `create link`.
        operation: &'static str,
        /// Interface, address or route.
        object: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// No such interface.
    #[error("there is no interface {0}: it was removed by somebody else; the next resync makes it again")]
    NoLink(String),
    /// A veth pair stays without carrier.
    #[error("{0} has no carrier: its other end, eth0 in the container, is down; the next resync sets it up")]
    NotReady(String),
    /// A sysctl could not be read.
    #[error("cannot read {}: is IPv6 off in this kernel (ipv6.disable=1)?", path.display())]
    ReadSysctl {
        /// Below /proc/sys.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A sysctl could not be written.
    #[error("cannot write {value:?} to {}: is /proc/sys mounted read-only?", path.display())]
    Sysctl {
        /// Below /proc/sys.
        path: PathBuf,
        /// What was to be written.
        value: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The namespace file of a process could not be opened.
    #[error("cannot open the network namespace {}: the container's process is gone", path.display())]
    OpenNetns {
        /// `/proc/<pid>/ns/net`.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A thread could not enter a namespace, or could not be started.
    #[error("cannot enter the network namespace net:[{inode}]: CAP_SYS_ADMIN is needed")]
    EnterNetns {
        /// Which.
        inode: u64,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel gave no cookie.
    #[error("cannot read the cookie of the network namespace net:[{inode}]: Linux 5.14 or newer is needed")]
    Cookie {
        /// Which.
        inode: u64,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel does not tell of a namespace's sockets.
    #[error("cannot list the sockets in net:[{inode}]: is the kernel's module there? modprobe {module}")]
    Sockets {
        /// Whose they are.
        module: &'static str,
        /// Which namespace.
        inode: u64,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A message of the kernel had no such part.
    #[error("the kernel's description of {object} lacks its {part}")]
    Incomplete {
        /// Interface or route.
        object: String,
        /// The attribute.
        part: &'static str,
    },
}

impl NetlinkError {
    /// For `map_err`.
    pub(super) fn request(operation: &'static str, object: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let object = object.into();
        move |error| Self::Request { operation, object, source: into_io(error) }
    }
}

fn into_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

/// The errno in a kernel's answer, positive, or 0.
pub(super) fn errno(error: &rtnetlink::Error) -> i32 {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.raw_code().saturating_neg(),
        _ => 0,
    }
}
