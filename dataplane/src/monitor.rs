//! What the programs tell, as it happens, for whoever follows.
//!
//! The ring that they write to has one consumer, which is [`Monitor::run`]; it hands every event to every [`Follower`].
//! While nobody follows it leaves the ring alone: full, it costs a program less than an event does. A ring that fills
//! up although it is read loses events that nobody is told of; the counters have them all.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use dataplane_ebpf::abi::Event;
use tokio::sync::{broadcast, watch};
use tokio::task::coop::consume_budget;
use tracing::debug;

use crate::bpf::{BpfError, Events};
use crate::clock::monotonic;
use crate::store::Store;

mod event;
mod names;

pub use event::{Dropped, MonitorEvent, Traffic};

use event::Moment;
use names::Names;

/// Events that wait for a slow follower; one that is further behind misses some.
const QUEUE: usize = 4_096;

/// One consumer, any number of followers.
#[derive(Debug)]
pub struct Monitor {
    told: broadcast::Sender<Told>,
    stage: watch::Sender<Stage>,
}

/// An event on its way to the followers.
#[derive(Debug, Clone)]
struct Told {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    at: u64,
    event: Arc<MonitorEvent>,
}

/// What the consumer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nobody follows.
    Idle,
    /// Somebody does, since this `CLOCK_MONOTONIC` in nanoseconds.
    Wanted(u64),
    /// Everything older has been passed over.
    Live,
}

impl Default for Monitor {
    fn default() -> Self {
        Self { told: broadcast::Sender::new(QUEUE), stage: watch::Sender::new(Stage::Idle) }
    }
}

impl Monitor {
    /// Hears of what happens from now on; returns when nothing of that can be lost any more for want of room in the
    /// ring. Something has to [`Self::run`].
    pub async fn follow(&self) -> Follower {
        let since = monotonic();
        // Subscribed before the consumer is told: it does not go idle between the two.
        let told = self.told.subscribe();
        self.stage.send_if_modified(|stage| {
            let idle = *stage == Stage::Idle;
            if idle {
                *stage = Stage::Wanted(since);
            }
            idle
        });
        self.reached(|stage| (stage == Stage::Live).then_some(())).await;
        Follower { told, since }
    }

    /// Consumes the ring while anybody follows, for as long as it is polled.
    ///
    /// # Errors
    /// [`BpfError::Events`] when it cannot be read.
    pub async fn run(&self, mut events: Events, store: Arc<dyn Store>) -> Result<Infallible, BpfError> {
        loop {
            let since = self.wanted().await;
            debug!("Somebody follows the events.");
            let mut names = Names::new(Arc::clone(&store));
            let newer = std::iter::from_fn(|| events.ready()).find(|event| event.at >= since);
            self.stage.send_replace(Stage::Live);
            if let Some(event) = newer {
                self.tell(&event, &mut names).await;
            }
            while let ControlFlow::Continue(event) = self.next(&mut events).await? {
                self.tell(&event, &mut names).await;
            }
            debug!("Nobody follows the events any more.");
        }
    }

    /// When the first follower came.
    async fn wanted(&self) -> u64 {
        self.reached(|stage| match stage {
            Stage::Wanted(since) => Some(since),
            Stage::Idle | Stage::Live => None,
        })
        .await
    }

    /// The next event, unless the last follower leaves.
    async fn next(&self, events: &mut Events) -> Result<ControlFlow<(), Event>, BpfError> {
        loop {
            // A ring that always holds something would keep the thread.
            consume_budget().await;
            tokio::select! {
                biased;
                () = self.told.closed() => if self.rests() { return Ok(ControlFlow::Break(())) },
                event = events.next() => return event.map(ControlFlow::Continue),
            }
        }
    }

    /// Goes idle, unless somebody has come meanwhile.
    fn rests(&self) -> bool {
        self.stage.send_if_modified(|stage| {
            let alone = self.told.receiver_count() == 0;
            if alone {
                *stage = Stage::Idle;
            }
            alone
        })
    }

    async fn tell(&self, event: &Event, names: &mut Names) {
        if let Some(told) = MonitorEvent::new(event, names.current().await, Moment::now()) {
            // The last one may just have left.
            let _nobody = self.told.send(Told { at: event.at, event: Arc::new(told) });
        }
    }

    /// Waits for a stage.
    async fn reached<T>(&self, found: impl Fn(Stage) -> Option<T>) -> T {
        let mut stage = self.stage.subscribe();
        loop {
            if let Some(found) = found(*stage.borrow_and_update()) {
                return found;
            }
            // No error: the sender is `self`'s.
            let _sent = stage.changed().await;
        }
    }
}

/// Hears every event that happens after it began to follow.
#[derive(Debug)]
pub struct Follower {
    told: broadcast::Receiver<Told>,
    since: u64,
}

impl Follower {
    /// The next event, or how many were missed; `None` when there is no [`Monitor`] any more. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<MonitorEvent>> {
        loop {
            match self.told.recv().await {
                // The consumer was at it for somebody else, and a little behind.
                Ok(told) if told.at < self.since => {}
                Ok(told) => return Some(told.event),
                Err(broadcast::error::RecvError::Lagged(events)) => {
                    return Some(Arc::new(MonitorEvent::Missed { events }));
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event of its own, told apart by the number.
    fn told(at: u64, events: u64) -> Told {
        Told { at, event: Arc::new(MonitorEvent::Missed { events }) }
    }

    /// A follower since 100, of a monitor whose consumer is the test.
    async fn follower(monitor: &Monitor) -> Follower {
        monitor.stage.send_replace(Stage::Live);
        Follower { since: 100, ..monitor.follow().await }
    }

    #[tokio::test]
    async fn a_follower_hears_nothing_older_than_itself() {
        let monitor = Monitor::default();
        let mut follower = follower(&monitor).await;
        for (at, number) in [(99, 1), (100, 2), (98, 3), (101, 4)] {
            monitor.told.send(told(at, number)).unwrap();
        }
        assert_eq!(follower.next().await, Some(told(0, 2).event));
        assert_eq!(follower.next().await, Some(told(0, 4).event));
        drop(monitor);
        assert_eq!(follower.next().await, None);
    }

    #[tokio::test]
    async fn a_slow_follower_is_told_how_much_it_missed_and_a_fast_one_misses_nothing() {
        let monitor = Monitor::default();
        let (mut slow, mut fast) = (follower(&monitor).await, follower(&monitor).await);
        let last = QUEUE as u64 + 7;
        for number in 1..=last {
            monitor.told.send(told(100, 1_000 + number)).unwrap();
            assert_eq!(fast.next().await, Some(told(0, 1_000 + number).event));
        }
        assert_eq!(slow.next().await, Some(told(0, 7).event), "seven are missing");
        assert_eq!(slow.next().await, Some(told(0, 1_008).event), "and it goes on with the eighth");
    }

    #[tokio::test]
    async fn the_consumer_begins_with_the_first_follower_and_rests_with_the_last() {
        let monitor = Arc::new(Monitor::default());
        let coming = tokio::spawn({
            let monitor = Arc::clone(&monitor);
            async move { monitor.follow().await }
        });
        let before = monotonic();
        let since = monitor.wanted().await;
        assert!(since.abs_diff(before) < 60_000_000_000 && !coming.is_finished(), "it waits for the consumer");
        monitor.stage.send_replace(Stage::Live);
        let first = coming.await.unwrap();
        let second = monitor.follow().await;
        drop(first);
        assert!(!monitor.rests(), "the second one is there");
        drop(second);
        assert!(monitor.rests());
        assert_eq!(*monitor.stage.borrow(), Stage::Idle);
    }
}
