//! How many connections a process had when it was killed.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Shared, Task, lock};
use crate::netlink::NetlinkError;

/// Between two counts: a count is at most so much older than the end.
const SAMPLE: Duration = Duration::from_millis(50);

/// What Docker reports of a process that SIGKILL ended: 128 and the signal's number.
const KILLED: i64 = 128 + libc::SIGKILL as i64;

/// The count of a container that is being stopped: the last one before its main process began to end.
#[derive(Debug)]
pub struct LastCount {
    count: Arc<Mutex<u32>>,
    _task: Task,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End<'a> {
    /// Its exit status, as Docker reports it.
    pub status: i64,
    /// What asked it to stop, as Compose's `stop_signal` has it; [`None`]: not SIGKILL.
    pub signal: Option<&'a str>,
    /// Between the request and Docker's answer.
    pub took: Duration,
    /// Between the stop signal and SIGKILL; Docker counts whole seconds, of which it takes those that are full.
    pub grace: Duration,
}

impl LastCount {
    /// Counts once, and then every 50 ms until the process `pid` ends: that one is to be asked to stop only after this.
    pub(super) async fn begin(meter: Shared, pid: u32) -> Result<Self, NetlinkError> {
        // Opened once: it never tells of another process that got the number later.
        let process = File::open(format!("/proc/{pid}/stat"));
        let first = meter.lock().await.count().await?.total();
        let count = Arc::new(Mutex::new(first));
        let kept = Arc::clone(&count);
        let task = Task::spawn(async move {
            let Ok(process) = process else { return };
            loop {
                tokio::time::sleep(SAMPLE).await;
                let count = meter.lock().await.count().await;
                // Asked after the count: a process that ends closes its sockets by and by, and they are not to be
                // taken for connections that ended well. Those of its children close after it began to end.
                if is_ending(&process) {
                    return;
                }
                if let Ok(count) = count {
                    *lock(&kept) = count.total();
                }
            }
        });
        Ok(Self { count, _task: task })
    }

    /// How many connections the end of the container cut.
    pub fn cut(&self, end: &End<'_>) -> u32 {
        if end.was_killed() { *lock(&self.count) } else { 0 }
    }
}

impl End<'_> {
    /// Whether SIGKILL ended it because it had not ended by itself in time. One that ended before that by a status
    /// that looks the same, such as a shell's whose last command was killed, did so by itself.
    ///
    /// Who ends by the stop signal without having asked for it is not seen here: the first process of a PID namespace
    /// ignores what it does not handle (pid_namespaces(7)), and so is killed in the end.
    pub fn was_killed(&self) -> bool {
        let at_once = self.signal.is_some_and(|signal| {
            let name = signal.to_ascii_uppercase();
            name.strip_prefix("SIG").unwrap_or(&name) == "KILL" || name == libc::SIGKILL.to_string()
        });
        self.status == KILLED && (at_once || self.took >= Duration::from_secs(self.grace.as_secs()))
    }
}

/// Whether the process has begun to end, or is gone.
fn is_ending(process: &File) -> bool {
    // Of some 300 octets; the flags are among the first hundred.
    let mut line = [0; 512];
    let read = process.read_at(&mut line, 0);
    // ESRCH: nobody is there any more.
    read.ok().and_then(|length| flags(line.get(..length)?)).is_none_or(|flags| flags & PF_EXITING != 0)
}

/// Of the kernel's `include/linux/sched.h`: set before the process lets go of its memory and its files.
const PF_EXITING: u32 = 4;

/// The flags in a line of `/proc/<pid>/stat` (proc_pid_stat(5)): the seventh field after the program's name, which may
/// hold blanks and parentheses itself.
fn flags(line: &[u8]) -> Option<u32> {
    let name_ends = line.iter().rposition(|octet| *octet == b')')?;
    let rest = std::str::from_utf8(line.get(name_ends + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(6)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: End<'_> =
        End { status: KILLED, signal: None, took: Duration::from_secs(10), grace: Duration::from_secs(10) };

    #[test]
    fn only_who_did_not_end_in_time_was_killed() {
        assert!(END.was_killed());
        for status in [0, 1, 143] {
            assert!(!End { status, ..END }.was_killed(), "{status}");
        }
        let early = End { took: Duration::from_millis(9_999), ..END };
        assert!(!early.was_killed());
        assert!(End { grace: Duration::from_millis(9_900), ..early }.was_killed(), "Docker waits for 9 s");
        assert!(End { grace: Duration::ZERO, took: Duration::ZERO, ..END }.was_killed());
    }

    #[test]
    fn who_is_asked_by_sigkill_is_killed_at_once() {
        let early = End { took: Duration::from_millis(80), ..END };
        for signal in ["SIGKILL", "KILL", "kill", "9"] {
            assert!(End { signal: Some(signal), ..early }.was_killed(), "{signal}");
        }
        for signal in ["SIGTERM", "SIGQUIT", "15", "SIG"] {
            assert!(!End { signal: Some(signal), ..early }.was_killed(), "{signal}");
        }
    }

    #[test]
    fn the_flags_are_found_whatever_the_program_is_called() {
        let line = "4711 (a) S (b) R 1 2 3 4 5 4194564 7 8 9\n";
        assert_eq!(flags(line.as_bytes()), Some(4_194_564));
        assert_eq!(flags(b"4711 (a) S 1 2"), None);
        assert_eq!(flags(b""), None);
    }

    #[test]
    fn a_process_is_ending_from_its_end_until_nobody_asks_for_it() {
        let mut process = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let stat = File::open(format!("/proc/{}/stat", process.id())).unwrap();
        assert!(!is_ending(&stat));
        process.kill().unwrap();
        // Awaited, but left as a zombie.
        let exited = libc::WEXITED | libc::WNOWAIT;
        // SAFETY: all zero is a valid `siginfo_t`, and the kernel fills it.
        let done = unsafe { libc::waitid(libc::P_PID, process.id(), &mut std::mem::zeroed(), exited) };
        assert_eq!(done, 0);
        assert!(is_ending(&stat), "a zombie");
        process.wait().unwrap();
        assert!(is_ending(&stat), "gone");
    }
}
