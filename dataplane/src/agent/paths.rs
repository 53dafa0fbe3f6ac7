//! What the network between the nodes is like: how long it takes to another one, and how large a packet may be.
//!
//! Not every path takes what the uplinks at its ends take, and not every one says so: a switch drops what is too long for
//! it without a word. So each node asks the others with echo requests that must not be fragmented; what is not answered
//! does not fit. Beside the agent's turns, once a minute: the agent hears of it when something is different.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{debug, warn};

use super::error::in_one_line;
use super::task::{Task, lock};

mod echo;
mod measure;

use measure::measure;

/// Between two measurements of a path.
const INTERVAL: Duration = Duration::from_secs(60);

/// Another node, and how large a packet may be at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Name.
    pub(super) node: String,
    /// Where its WireGuard listens.
    pub(super) address: IpAddr,
    /// Octets of the largest packet that both uplinks take.
    pub(super) mtu: u32,
}

/// What a path is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// There and back, of a packet of 56 octets; [`None`]: the other end answers no echo request.
    pub latency: Option<Duration>,
    /// Octets of the largest packet that gets through, as far as that can be told.
    pub mtu: u32,
    /// What [`Self::mtu`] would be if only the uplinks counted.
    pub uplinks: u32,
}

/// The paths to the other nodes.
#[derive(Debug, Default)]
pub(super) struct Paths {
    watches: Mutex<BTreeMap<String, Watch>>,
    bell: Arc<Notify>,
}

#[derive(Debug)]
struct Watch {
    target: Target,
    found: Arc<Mutex<Option<Path>>>,
    _task: Task,
}

impl Paths {
    /// Measures the paths to these from now on, and to no other; one that is measured already is left alone. To be called
    /// within a tokio runtime.
    pub(super) fn follow(&self, wanted: impl IntoIterator<Item = Target>) {
        let mut watches = lock(&self.watches);
        let mut before = std::mem::take(&mut *watches);
        for target in wanted {
            let same = before.remove(&target.node).filter(|watch| watch.target == target);
            watches.insert(target.node.clone(), same.unwrap_or_else(|| self.begin(target)));
        }
    }

    /// What is known of the path to a node.
    pub(super) fn state(&self, node: &str) -> Option<Path> {
        *lock(&lock(&self.watches).get(node)?.found)
    }

    /// Octets of the largest packet to each node, of the paths that have been measured.
    pub(super) fn mtus(&self) -> BTreeMap<String, u32> {
        let watches = lock(&self.watches);
        watches.iter().filter_map(|(node, watch)| Some((node.clone(), (*lock(&watch.found))?.mtu))).collect()
    }

    /// Comes true when another size of packets gets through somewhere; for one listener, for which many changes are one.
    pub(super) async fn changed(&self) {
        self.bell.notified().await;
    }

    fn begin(&self, target: Target) -> Watch {
        let found = Arc::default();
        let task = watch(target.clone(), Arc::clone(&found), Arc::clone(&self.bell));
        Watch { target, found, _task: Task::spawn(task) }
    }
}

async fn watch(target: Target, found: Arc<Mutex<Option<Path>>>, bell: Arc<Notify>) {
    let Target { node, address, mtu: uplinks } = &target;
    let mut told = false;
    loop {
        let before = *lock(&found);
        // What was measured holds until something else is: nobody who is away for a moment gets larger packets.
        let mut path = Path { latency: None, mtu: before.map_or(*uplinks, |path| path.mtu), uplinks: *uplinks };
        match measure(*address, *uplinks).await {
            Ok(measured) => {
                path.latency = measured.latency;
                path.mtu = measured.mtu.unwrap_or(path.mtu);
            }
            Err(error) if !told => {
                told = true;
                let error = in_one_line(&error);
                warn!(node, error, "Cannot measure the path; what the uplinks take is taken for what it takes.");
            }
            Err(_) => {}
        }
        *lock(&found) = Some(path);
        if before.map(|path| path.mtu) != Some(path.mtu) {
            debug!(node, %address, ?path, "Measured a path.");
            bell.notify_one();
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
