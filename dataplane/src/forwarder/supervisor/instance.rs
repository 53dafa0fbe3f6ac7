use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::super::{Config, ForwarderError};
use crate::service_manager;

/// Key of a forwarder that is a service manager's unit.
pub(super) const UNIT: &str = "unit";
/// Set in the environment of a forwarder that the supervisor started: its pid file.
pub(super) const PID_FILE: &str = "SKEP_DNS_PID_FILE";
/// What a forwarder says on standard output once it serves.
pub(super) const READY: &str = "ready\n";

/// A running forwarder, as it sees itself: the lock on its pid file.
pub(in super::super) struct Instance {
    _lock: Flock<File>,
}

/// The pid file of the forwarder whose binary and arguments have the digest `key`.
pub(super) fn path(run_dir: &Path, key: &str) -> PathBuf {
    run_dir.join(format!("dns-{key}.pid"))
}

/// Whether a file of the run directory is one.
pub(super) fn is_pid_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("dns-") && name.ends_with(".pid")
}

/// The process that holds a pid file; `None` when it is a dead one's.
pub(super) fn holder(path: &Path) -> io::Result<Option<u32>> {
    let file = File::options().read(true).write(true).open(path)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_) => Ok(None),
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            text.trim().parse().map(Some).map_err(io::Error::other)
        }
        Err((_, errno)) => Err(errno.into()),
    }
}

impl Instance {
    /// Locks the pid file and writes this process into it. The lock goes with the process, however that ends.
    pub(in super::super) fn claim(config: &Config) -> Result<Self, ForwarderError> {
        let key = if service_manager::is_there() { UNIT } else { "by-hand" };
        let path = std::env::var_os(PID_FILE).map_or_else(|| path(&config.run_dir, key), PathBuf::from);
        let failed = |source| ForwarderError::PidFile { path: path.clone(), source };
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
        let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => ForwarderError::Held { path: path.clone() },
            errno => failed(errno.into()),
        })?;
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut lock).map_err(failed)?;
        Ok(Self { _lock: lock })
    }

    /// Tells the service manager, or the supervisor, that questions are answered from now on.
    pub(in super::super) fn ready(&self) -> io::Result<()> {
        if service_manager::is_there() {
            return service_manager::ready();
        }
        let mut out = io::stdout().lock();
        out.write_all(READY.as_bytes())?;
        out.flush()
    }
}
