//! A supervised process' share of a busy processor.

use nix::unistd::{getpid, getsid};
use rustix::process::setpriority_process;
use tracing::debug;

/// Everybody's names or packets depend on it: before whoever has 0, behind nobody's real-time work.
const NICE: i32 = -10;

/// Takes precedence over the load that it serves: without, beside 14 busy threads on two processors, the forwarder was
/// runnable and not run for up to four seconds at a time, and clients gave up; with it, for a fifth of one at most.
///
/// Called before there are threads, which inherit it. As a unit of systemd it has that already (`Nice=`, `CPUWeight=`).
/// Not allowed to, it goes on without.
pub fn take_precedence() {
    // Where sessions share the processor (sched(7), autogroup), `nice` counts within one only. A person's shell is not to
    // take precedence with it. In a container, the session of a process may be one from outside: its id is 0 then.
    let own_session = getsid(None).is_ok_and(|session| session == getpid());
    let session = own_session.then(|| std::fs::write("/proc/self/autogroup", NICE.to_string()));
    let process = setpriority_process(None, NICE);
    debug!(?session, ?process, "Asked for precedence.");
}
