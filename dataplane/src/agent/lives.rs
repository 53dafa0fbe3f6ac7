//! The kernel tells at once when a process ends; Docker does when it has cleaned up, hundreds of milliseconds later or,
//! when it hangs, not at all. Clients would be sent to the dead meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::task::{Task, lock};

/// One life of a container: its id, the pid of its main process, when that was started.
pub(super) type Incarnation = (String, u32, Option<String>);

/// The main processes of containers, each held by a pidfd.
#[derive(Debug, Default)]
pub(super) struct Lives {
    watches: Mutex<BTreeMap<Incarnation, Task>>,
    deaths: Arc<Deaths>,
}

#[derive(Debug, Default)]
struct Deaths {
    containers: Mutex<BTreeSet<Incarnation>>,
    bell: Notify,
}

impl Lives {
    /// Whether this life is over. From the first question on, its end rings.
    pub(super) fn is_over(&self, life: &Incarnation) -> bool {
        let mut watches = lock(&self.watches);
        if !watches.contains_key(life) {
            match watch(life.1) {
                Ok(pidfd) => drop(watches.insert(life.clone(), self.begin(life.clone(), pidfd))),
                // It ended before it could be held.
                Err(rustix::io::Errno::SRCH) => return true,
                // No more than Docker will tell.
                Err(_) => return false,
            }
        }
        lock(&self.deaths.containers).contains(life)
    }

    /// Forgets all lives but these.
    pub(super) fn retain(&self, living: &BTreeSet<Incarnation>) {
        lock(&self.watches).retain(|life, _| living.contains(life));
        lock(&self.deaths.containers).retain(|life| living.contains(life));
    }

    /// Comes true when one has ended.
    pub(super) async fn death(&self) {
        self.deaths.bell.notified().await;
    }

    /// The containers of those that have ended and are not forgotten yet.
    pub(super) fn ended(&self) -> BTreeSet<String> {
        lock(&self.deaths.containers).iter().map(|(id, ..)| id.clone()).collect()
    }

    fn begin(&self, life: Incarnation, pidfd: AsyncFd<OwnedFd>) -> Task {
        let deaths = Arc::clone(&self.deaths);
        Task::spawn(async move {
            // A pidfd becomes readable when its process ends; an error means that it cannot be watched any more.
            if pidfd.readable().await.is_ok() {
                lock(&deaths.containers).insert(life);
                deaths.bell.notify_one();
            }
        })
    }
}

fn watch(pid: u32) -> Result<AsyncFd<OwnedFd>, rustix::io::Errno> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(rustix::io::Errno::INVAL)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    // SAFETY: the descriptor belongs to the `AsyncFd`, which hands out shared references only.
    let watched = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    watched.map_err(|_| rustix::io::Errno::MFILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_process_rings_once_and_is_remembered_until_it_is_forgotten() {
        let mut process = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let lives = Lives::default();
        let life = ("c1".to_owned(), process.id(), None);
        assert!(!lives.is_over(&life));
        process.kill().unwrap();
        lives.death().await;
        assert!(lives.is_over(&life));
        assert_eq!(lives.ended(), ["c1".to_owned()].into());
        lives.retain(&BTreeSet::new());
        assert_eq!(lives.ended(), BTreeSet::new());
        process.wait().unwrap();
        assert!(lives.is_over(&life), "a process that is gone");
    }
}
