//! Replicas that are to go, and who is still connected to them.
//!
//! Nobody is sent to such a replica any more, but who was goes on. [`Drains`] counts them
//! ([`crate::netlink::Meter`] says what counts) until there is none left or their time is up; only then the replica is
//! asked to stop. While it does, a [`LastCount`] keeps the number that a SIGKILL would cut.

mod last;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::warn;

pub use last::{End, LastCount};

use super::error::in_one_line;
use super::task::{Task, lock};
use crate::model::{Pools, ReplicaKey};
use crate::netlink::{Meter, NetlinkError, Netns};

/// Between two counts.
const COUNT: Duration = Duration::from_millis(100);

/// A replica that is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Which.
    pub key: ReplicaKey,
    /// The file of its network namespace: `/proc/<pid of its sandbox>/ns/net`.
    pub netns: PathBuf,
    /// How long its connections may take to end by themselves, from now on.
    pub timeout: Duration,
}

/// How far a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// Those that it serves, at the last count.
    pub connections: u32,
    /// It serves none any more, or its time is up: it can be asked to stop.
    pub over: bool,
}

/// The replicas that are to go.
#[derive(Debug)]
pub struct Drains {
    pools: Pools,
    watches: Mutex<BTreeMap<ReplicaKey, Watch>>,
    bell: Arc<Notify>,
}

/// One namespace; counted by one at a time.
type Shared = Arc<tokio::sync::Mutex<Meter>>;

#[derive(Debug)]
struct Watch {
    netns: PathBuf,
    /// [`None`]: the namespace is gone.
    meter: Option<Shared>,
    /// [`None`]: not counted yet.
    state: Arc<Mutex<Option<Drain>>>,
    _task: Option<Task>,
}

impl Drains {
    /// None yet; clients have addresses of the container pools.
    pub fn new(pools: Pools) -> Self {
        Self { pools, watches: Mutex::default(), bell: Arc::default() }
    }

    /// Counts for these from now on and for no other. One that is followed already, in the same namespace, is left
    /// alone: its time runs since it was first named. To be called within a tokio runtime.
    pub fn follow(&self, ending: impl IntoIterator<Item = Ending>) {
        let mut watches = lock(&self.watches);
        let mut before = std::mem::take(&mut *watches);
        for ending in ending {
            let same = before.remove(&ending.key).filter(|watch| watch.netns == ending.netns);
            let key = ending.key.clone();
            watches.insert(key, same.unwrap_or_else(|| self.begin(ending)));
        }
    }

    /// How far it is; [`None`] for one that is not followed, or not counted yet.
    pub fn state(&self, key: &ReplicaKey) -> Option<Drain> {
        let watches = lock(&self.watches);
        *lock(&watches.get(key)?.state)
    }

    /// Comes true when a count is another or one is over; for one listener, for which many changes are one.
    pub async fn changed(&self) {
        self.bell.notified().await;
    }

    /// Keeps the count of a replica that is about to be stopped, whose main process is `pid`. One that is followed is
    /// counted as before: on which ports it listened is still known.
    ///
    /// # Errors
    /// [`NetlinkError`] when it cannot be counted; it can be stopped all the same.
    pub async fn last_count(&self, key: &ReplicaKey, netns: PathBuf, pid: u32) -> Result<LastCount, NetlinkError> {
        let known =
            lock(&self.watches).get(key).filter(|watch| watch.netns == netns).and_then(|watch| watch.meter.clone());
        let meter = match known {
            Some(meter) => meter,
            None => self.meter(&netns)?,
        };
        LastCount::begin(meter, pid).await
    }

    fn meter(&self, netns: &std::path::Path) -> Result<Shared, NetlinkError> {
        let meter = Meter::new(Netns::open(netns)?, self.pools.clone());
        Ok(Arc::new(tokio::sync::Mutex::new(meter)))
    }

    fn begin(&self, Ending { key, netns, timeout }: Ending) -> Watch {
        let Ok(meter) = self.meter(&netns) else {
            // Its connections are gone with it.
            self.bell.notify_one();
            let state = Arc::new(Mutex::new(Some(Drain { connections: 0, over: true })));
            return Watch { netns, meter: None, state, _task: None };
        };
        let state = Arc::default();
        let task = watch(key, Arc::clone(&meter), timeout, Arc::clone(&state), Arc::clone(&self.bell));
        Watch { netns, meter: Some(meter), state, _task: Some(Task::spawn(task)) }
    }
}

async fn watch(key: ReplicaKey, meter: Shared, timeout: Duration, state: Arc<Mutex<Option<Drain>>>, bell: Arc<Notify>) {
    let since = Instant::now();
    let mut last: Option<Drain> = None;
    let mut told = false;
    loop {
        let count = meter.lock().await.count().await;
        if let Err(error) = &count
            && !std::mem::replace(&mut told, true)
        {
            warn!(replica = %key, error = in_one_line(error), "Cannot count connections; waiting for all of drain_timeout.");
        }
        let count = count.ok().map(|connections| connections.total());
        let now = drain(count, last, since.elapsed() >= timeout);
        if last.replace(now) != Some(now) {
            *lock(&state) = Some(now);
            bell.notify_one();
        }
        if now.over {
            return;
        }
        tokio::time::sleep(COUNT.min(timeout.saturating_sub(since.elapsed()))).await;
    }
}

/// What a count means; one that failed ends nothing before its time.
fn drain(count: Option<u32>, last: Option<Drain>, late: bool) -> Drain {
    let connections = count.or(last.map(|last| last.connections)).unwrap_or(0);
    Drain { connections, over: late || count == Some(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_over_at_zero_or_when_its_time_is_up() {
        let with = |connections, over| Drain { connections, over };
        assert_eq!(drain(Some(3), None, false), with(3, false));
        assert_eq!(drain(Some(0), Some(with(3, false)), false), with(0, true));
        assert_eq!(drain(Some(3), Some(with(3, false)), true), with(3, true));
    }

    #[test]
    fn what_cannot_be_counted_is_not_taken_for_nothing() {
        let with = |connections, over| Drain { connections, over };
        assert_eq!(drain(None, None, false), with(0, false));
        assert_eq!(drain(None, Some(with(3, false)), false), with(3, false));
        assert_eq!(drain(None, Some(with(3, false)), true), with(3, true));
    }
}
