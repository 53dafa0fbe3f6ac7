//! The times that a decision depends on.

use std::time::{Duration, Instant};

use crate::clock::unix;
use crate::model::rollout::Millis;

/// A clock that goes wrong by more between two looks has been set.
const SET: Millis = 5_000;

/// What time it is for whom: milliseconds since the epoch.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// For deployments. A preview imagines it.
    pub now: Millis,
    /// For runs that are due.
    pub wall: Millis,
    /// Since when somebody looks on. What nobody saw is nobody's fault: patience, and a good behaviour, count from here.
    pub watching: Millis,
}

impl Clock {
    /// The same for all, and somebody has always looked on.
    #[must_use]
    pub fn at(now: Millis) -> Self {
        Self { now, wall: now, watching: 0 }
    }

    /// Since when something is so that was written down as of `written`: not for longer than somebody looks on. Whoever
    /// wrote it may have had another clock, an hour behind this one or an hour ahead.
    pub(super) fn since(&self, written: Millis) -> Millis {
        if written > self.now { self.watching } else { written.max(self.watching) }
    }

    /// Whether it is so for as long as `wait`.
    pub(super) fn passed(&self, written: Millis, wait: Millis) -> bool {
        self.now.saturating_sub(self.since(written)) >= wait
    }
}

/// A controller's own clock, while it leads.
pub(super) struct Term {
    watching: Millis,
    begun: Instant,
}

impl Term {
    /// It begins to look on.
    pub(super) fn begin() -> Self {
        Self { watching: unix(), begun: Instant::now() }
    }

    /// What time it is. When the clock has been set, nothing is known of how long anything took: it looks on from then.
    pub(super) fn clock(&mut self) -> Clock {
        self.read(unix(), self.begun.elapsed())
    }

    fn read(&mut self, now: Millis, led: Duration) -> Clock {
        let expected = self.watching.saturating_add(u64::try_from(led.as_millis()).unwrap_or(u64::MAX));
        if now.abs_diff(expected) > SET {
            *self = Self { watching: now, begun: Instant::now() };
        }
        Clock { watching: self.watching, ..Clock::at(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_clock_wrote_is_as_old_as_the_look_at_it() {
        let clock = Clock { watching: 100_000, ..Clock::at(130_000) };
        assert_eq!(
            [0, 99_000, 110_000, 130_000, 3_700_000].map(|written| clock.since(written)),
            [100_000, 100_000, 110_000, 130_000, 100_000]
        );
        assert!(clock.passed(3_700_000, 30_000) && !clock.passed(3_700_000, 30_001));
        assert!(clock.passed(0, 30_000) && !clock.passed(0, 30_001));
    }

    #[test]
    fn a_clock_that_is_set_makes_nothing_older_and_nothing_wait_for_it() {
        for set_to in [1_000_000, 7_200_000] {
            let mut term = Term { watching: 3_600_000, begun: Instant::now() };
            let clock = term.read(3_630_000, Duration::from_secs(30));
            assert!(clock.passed(3_600_000, 30_000));
            let clock = term.read(set_to, Duration::from_secs(31));
            assert_eq!((clock.now, clock.watching), (set_to, set_to));
            assert!(!clock.passed(3_600_000, 1));
            assert!(term.read(set_to + 10_000, Duration::from_secs(10)).passed(3_600_000, 10_000));
        }
    }
}
