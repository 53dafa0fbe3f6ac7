//! The times that a decision depends on.

use crate::model::rollout::Millis;

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
}
