//! How many files the daemon may have open. One that runs into the limit works by halves: it is raised at the start,
//! or the start is refused.

use std::io;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::debug;

/// What is asked for: connections of clients and to Docker, watches and pipes beside what is always open.
const WANTED: u64 = 16_384;
/// Least with which all of it works: about 60 are always open, and a client or a replica being made takes a few more.
const NEEDED: u64 = 1_024;

/// The limit is too low, and this process may not raise it.
#[derive(Debug, thiserror::Error)]
#[error("at most {limit} files may be open, {NEEDED} are needed: ulimit -n {WANTED} (systemd: LimitNOFILE={WANTED})")]
pub struct TooFew {
    limit: u64,
    #[source]
    source: io::Error,
}

/// Raises the limit as far as it is of use.
///
/// # Errors
/// [`TooFew`].
pub(crate) fn raise() -> Result<(), TooFew> {
    let refused = |limit| move |errno: Errno| TooFew { limit, source: errno.into() };
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(refused(0))?;
    if soft >= WANTED {
        return Ok(());
    }
    // Root may raise the hard limit, too; whoever may not gets as much as that allows.
    let set = |soft, hard| setrlimit(Resource::RLIMIT_NOFILE, soft, hard).map(|()| soft);
    let limit = set(WANTED, hard.max(WANTED)).or_else(|_| set(hard.min(WANTED), hard)).map_err(refused(soft))?;
    debug!(before = soft, after = limit, "Raised the limit of open files.");
    if limit < NEEDED { Err(refused(limit)(Errno::EPERM)) } else { Ok(()) }
}
