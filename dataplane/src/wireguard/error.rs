use std::io;
use std::path::PathBuf;

use crate::netlink::NetlinkError;
use crate::private::PrivateFileError;
use crate::random::RandomError;
use crate::supervisor::{InstanceError, SupervisorError};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its file cannot be read or made, or others may read it.
    #[error("the private key: {0}")]
    Private(#[from] PrivateFileError),
    /// It is no key.
    #[error("{} holds no key of WireGuard: remove it, and this node gets another one", path.display())]
    Content {
        /// The file.
        path: PathBuf,
    },
    /// Nor is this.
    #[error("`{text}` is no public key of WireGuard: 32 octets as base64 are")]
    Text {
        /// As given.
        text: String,
    },
    /// None can be made.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// What a device refused.
#[derive(Debug, thiserror::Error)]
pub enum WireguardError {
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Links.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The userspace device's process.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// The node was told to have none.
    #[error("this node has no tunnel: start skepd without --tunnel off")]
    Off,
    /// The kernel has none.
    #[error("this kernel has no WireGuard: modprobe wireguard, or start skepd with --tunnel auto")]
    NoKernel,
    /// Somebody else's device.
    #[error("there is a device {device} that is no tunnel: remove it, or give another name with --tunnel-device")]
    Occupied {
        /// Its name.
        device: String,
    },
    /// The device went away.
    #[error("there is no device {device}: the next resync makes it again")]
    Gone {
        /// Its name.
        device: String,
    },
    /// The device does not tell.
    #[error("cannot read the tunnel {device}: {source}")]
    Read {
        /// Its name.
        device: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The device does not do it.
    #[error("cannot {change} on the tunnel {device}: {source}")]
    Change {
        /// Its name.
        device: String,
        /// What was to be done; no secret.
        change: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why `skepd tunnel` cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Another one runs.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The TUN device.
    #[error("cannot make the device {device}: {source}: is there /dev/net/tun (modprobe tun), and is the name free?")]
    Tun {
        /// Its name.
        device: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The socket by which it is told.
    #[error("cannot listen on {}: {source}: is the run directory writable?", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What it may do cannot be given up.
    #[error("cannot give up capabilities: {source}")]
    Capabilities {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No thread.
    #[error("cannot start a thread: {source}")]
    Thread {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Whoever waits for it is gone.
    #[error("cannot tell who started the tunnel that it is ready: {source}")]
    Ready {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A part of it has ended.
    #[error("the tunnel's {part} has ended")]
    Ended {
        /// Which.
        part: &'static str,
    },
}
