//! When each lease ends. Only that is in memory; leases themselves and their keys are in the file.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::store::LeaseId;

pub(super) struct Leases {
    running: Mutex<BTreeMap<LeaseId, Running>>,
    changed: Notify,
}

struct Running {
    ttl: Duration,
    ends: Instant,
}

impl Running {
    /// A time that no clock can hold is as good as a year.
    fn for_another(ttl: Duration) -> Self {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        Self { ttl, ends: Instant::now() + ttl.min(YEAR) }
    }
}

impl Leases {
    pub(super) fn new(leases: Vec<(LeaseId, Duration)>) -> Self {
        let running = leases.into_iter().map(|(id, ttl)| (id, Running::for_another(ttl))).collect();
        Self { running: Mutex::new(running), changed: Notify::new() }
    }

    pub(super) fn start(&self, lease: LeaseId, ttl: Duration) {
        self.lock().insert(lease, Running::for_another(ttl));
        self.changed.notify_one();
    }

    /// Starts its time again; false when it has ended.
    pub(super) fn restart(&self, lease: LeaseId) -> bool {
        match self.lock().get_mut(&lease) {
            Some(running) => {
                *running = Running::for_another(running.ttl);
                true
            }
            None => false,
        }
    }

    pub(super) fn forget(&self, lease: LeaseId) {
        self.lock().remove(&lease);
    }

    /// Waits for the next lease to end, and forgets it. For one caller at a time.
    pub(super) async fn next_ended(&self) -> LeaseId {
        loop {
            let first = self.lock().iter().map(|(id, running)| (running.ends, *id)).min();
            match first {
                // Looked up again under the lock: it may have been kept alive meanwhile.
                Some((ends, lease)) if ends <= Instant::now() => {
                    let mut running = self.lock();
                    if running.get(&lease).is_some_and(|r| r.ends <= Instant::now()) {
                        running.remove(&lease);
                        return lease;
                    }
                }
                Some((ends, _)) => tokio::select! {
                    () = sleep_until(ends) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LeaseId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
