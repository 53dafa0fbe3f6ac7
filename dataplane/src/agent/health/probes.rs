//! Asks each replica again and again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::debug;

use super::Probed;
use super::ask::ask;
use super::record::Record;
use crate::agent::error::in_one_line;
use crate::agent::task::{Task, lock};
use crate::model::ReplicaKey;
use crate::model::rollout::Probe;
use crate::netlink::Netns;

/// A running replica, and how to ask it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub key: ReplicaKey,
    /// Which life of it: of another one nothing is known.
    pub incarnation: String,
    /// The file of its network namespace: `/proc/<pid of its sandbox>/ns/net`.
    pub netns: PathBuf,
    /// Its IPv4 address (a server that listens on nothing else than IPv6 is hardly to be found) and its port.
    pub address: SocketAddr,
    /// What, and how often.
    pub probe: Probe,
}

/// The replicas that are asked.
#[derive(Debug, Default)]
pub struct Probes {
    watches: Mutex<BTreeMap<ReplicaKey, Watch>>,
    bell: Arc<Notify>,
}

#[derive(Debug)]
struct Watch {
    target: Target,
    probed: Arc<Mutex<Probed>>,
    _task: Task,
}

impl Probes {
    /// Asks these from now on and no other; one that is asked already, in the same life, is left alone. `was_well` is
    /// asked about those that are new here: whether one served before, under the daemon before this one say, and so is
    /// taken for well until its failures show the contrary. To be called within a tokio runtime.
    pub fn follow(&self, wanted: impl IntoIterator<Item = Target>, was_well: impl Fn(&ReplicaKey) -> bool) {
        let mut watches = lock(&self.watches);
        let mut before = std::mem::take(&mut *watches);
        for target in wanted {
            let same = before.remove(&target.key).filter(|watch| watch.target == target);
            let key = target.key.clone();
            let known = || was_well(&key);
            watches.insert(key.clone(), same.unwrap_or_else(|| self.begin(target, known())));
        }
    }

    /// What is known of it; [`None`] for one that is not asked.
    pub fn state(&self, key: &ReplicaKey) -> Option<Probed> {
        let watches = lock(&self.watches);
        Some(lock(&watches.get(key)?.probed).clone())
    }

    /// Comes true when something else is known of one; for one listener, for which many changes are one.
    pub async fn changed(&self) {
        self.bell.notified().await;
    }

    fn begin(&self, target: Target, was_well: bool) -> Watch {
        let record = Record::new(was_well);
        let probed = Arc::new(Mutex::new(record.probed().clone()));
        let task = watch(target.clone(), record, Arc::clone(&probed), Arc::clone(&self.bell));
        Watch { target, probed, _task: Task::spawn(task) }
    }
}

async fn watch(target: Target, mut record: Record, probed: Arc<Mutex<Probed>>, bell: Arc<Notify>) {
    let Target { key, netns, address, probe, .. } = &target;
    let since = Instant::now();
    if *record.probed() == Probed::Well {
        // All of a node are new to a daemon that starts: not all at once.
        tokio::time::sleep(Duration::from_millis(probe.interval).mul_f64(f64::from(random()) / f64::from(u32::MAX)))
            .await;
    }
    // Not held open: it would outlive its container by that.
    let mut inode = None;
    loop {
        let answer = match Netns::open(netns) {
            Ok(netns) if *inode.get_or_insert(netns.inode()) == netns.inode() => {
                ask(&netns, *address, &key.service.service, probe).await.map_err(|failure| in_one_line(&failure))
            }
            Ok(_) => Err("its network namespace is another one".to_owned()),
            Err(error) => Err(in_one_line(&error)),
        };
        if record.take(answer, probe) {
            debug!(replica = %key, probed = ?record.probed(), "A replica answers differently.");
            record.probed().clone_into(&mut lock(&probed));
            bell.notify_one();
        }
        tokio::time::sleep(record.pause(probe, since.elapsed(), random())).await;
    }
}

/// Where there is no random number, all take the middle.
fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}
