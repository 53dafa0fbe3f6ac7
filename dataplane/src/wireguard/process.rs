//! `skepd tunnel`: the userspace device as a process of its own.
//!
//! It is told what to do by a socket in the run directory, in the text that every implementation of WireGuard takes; so
//! daemons on one kernel, each with its own run directory, share nothing. One of another build than the daemon's goes
//! on: with the process, its sessions would end.

use std::convert::Infallible;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::ProcessError;
use super::device::{Device, Tun};
use crate::config::Config;
use crate::supervisor::{Charge, Instance};

pub(super) static CHARGE: Charge = Charge {
    name: "tunnel",
    what: "The userspace tunnel",
    unit: "skepd-tunnel",
    loss: "Other nodes cannot be reached.",
    keeps_build: true,
    on_demand: true,
};

/// How long a client may take for one request.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest request, in octets: thousands of peers.
const REQUEST_MAX: u64 = 4 << 20;

/// Where the process of a run directory listens.
pub(super) fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("tunnel.sock")
}

/// Serves until it is killed, which loses no more than its sessions.
///
/// Must be called before there are other threads: they would keep the capabilities that it gives up.
///
/// # Errors
/// [`ProcessError`] when it cannot begin, or a part of it ends.
pub fn run(config: &Config) -> Result<Infallible, ProcessError> {
    let instance = Instance::claim(&CHARGE, &config.run_dir)?;
    let device = &config.tunnel_device;
    let tun = Tun::make(device).map_err(|source| ProcessError::Tun { device: device.clone(), source })?;
    let path = socket(&config.run_dir);
    let listener = listen(&path).map_err(|source| ProcessError::Socket { path, source })?;
    give_up().map_err(|source| ProcessError::Capabilities { source })?;
    let (ended, ends) = mpsc::channel();
    let serving = ended.clone();
    let started = Device::start(tun, ended).map_err(|source| ProcessError::Thread { source })?;
    thread::Builder::new()
        .name("configuration".to_owned())
        .spawn(move || {
            serve(&listener, &started);
            let _heard = serving.send("configuration");
        })
        .map_err(|source| ProcessError::Thread { source })?;
    instance.ready().map_err(|source| ProcessError::Ready { source })?;
    info!(device, "The userspace tunnel is there.");
    Err(ProcessError::Ended { part: ends.recv().unwrap_or("work") })
}

/// The socket, for root alone.
fn listen(path: &Path) -> io::Result<UnixListener> {
    // Of a process that is gone: this one holds the lock.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    nix::sys::stat::umask(before);
    let listener = listener?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Device and socket are there: from now on it needs no more than to open a UDP port.
fn give_up() -> io::Result<()> {
    set_no_new_privs(true)?;
    let needed = CapabilitySet::NET_BIND_SERVICE;
    let sets = CapabilitySets { effective: needed, permitted: needed, inheritable: CapabilitySet::empty() };
    match set_capabilities(None, sets) {
        // It has not even that one.
        Err(rustix::io::Errno::PERM) => {
            let none = CapabilitySet::empty();
            Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
        }
        result => Ok(result?),
    }
}

fn serve(listener: &UnixListener, device: &Arc<Device>) {
    for client in listener.incoming() {
        let served = client.and_then(|client| serve_one(&client, device));
        if let Err(error) = served {
            warn!(%error, "A client of the tunnel was not served.");
        }
    }
}

/// One after another; each request is read as a whole before anything of it is done.
fn serve_one(client: &UnixStream, device: &Arc<Device>) -> io::Result<()> {
    let peer = getsockopt(client, sockopt::PeerCredentials)?;
    if peer.uid() != 0 && peer.uid() != nix::unistd::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    client.set_read_timeout(Some(CLIENT_TIMEOUT))?;
    client.set_write_timeout(Some(CLIENT_TIMEOUT))?;
    let mut reader = BufReader::new(client);
    loop {
        // A private key may be in it.
        let mut request = Zeroizing::new(String::with_capacity(4096));
        let mut rest = reader.by_ref().take(REQUEST_MAX);
        while !request.ends_with("\n\n") {
            if rest.read_line(&mut request)? == 0 {
                return if request.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
        (&*client).write_all(device.answer(&request).as_bytes())?;
    }
}
