use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::Charge;
use crate::service_manager;

/// Key of a process that is a service manager's unit.
pub(super) const UNIT: &str = "unit";
/// Set in the environment of a process that the supervisor started: its pid file.
pub(super) const PID_FILE: &str = "SKEP_PID_FILE";
/// What a process says on standard output once it serves.
pub(super) const READY: &str = "ready\n";

/// A supervised process, as it sees itself: the lock on its pid file.
pub(crate) struct Instance {
    _lock: Flock<File>,
}

/// Why a process is not the one of its kind.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// The pid file is held by another one.
    #[error("{}: another process holds it: stop that one first", path.display())]
    Held {
        /// The pid file.
        path: PathBuf,
    },
    /// The pid file cannot be written.
    #[error("{}: {source}: is the run directory writable?", path.display())]
    PidFile {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The pid file of the process whose binary and arguments have the digest `key`.
pub(super) fn path(charge: &Charge, run_dir: &Path, key: &str) -> PathBuf {
    run_dir.join(format!("{}-{key}.pid", charge.name))
}

/// Whether a file of the run directory is one.
pub(super) fn is_pid_file(charge: &Charge, path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let rest = name.strip_prefix(charge.name).and_then(|rest| rest.strip_prefix('-'));
    rest.is_some_and(|rest| rest.ends_with(".pid"))
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
    ///
    /// # Errors
    /// [`InstanceError`].
    pub(crate) fn claim(charge: &Charge, run_dir: &Path) -> Result<Self, InstanceError> {
        let key = if service_manager::is_there() { UNIT } else { "by-hand" };
        let path = std::env::var_os(PID_FILE).map_or_else(|| path(charge, run_dir, key), PathBuf::from);
        let failed = |source| InstanceError::PidFile { path: path.clone(), source };
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
        let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => InstanceError::Held { path: path.clone() },
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

    /// Tells the service manager, or the supervisor, that it serves from now on.
    ///
    /// # Errors
    /// Whoever started it is gone.
    pub(crate) fn ready(&self) -> io::Result<()> {
        if service_manager::is_there() {
            return service_manager::ready();
        }
        let mut out = io::stdout().lock();
        out.write_all(READY.as_bytes())?;
        out.flush()
    }
}
