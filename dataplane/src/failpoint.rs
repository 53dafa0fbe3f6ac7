//! For tests of what is left when the daemon dies: it ends by itself right before or right after a step.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::warn;

use crate::config::AbortAt;

/// Counts steps since the daemon's start. Without [`AbortAt`] it does nothing.
#[derive(Debug)]
pub(crate) struct Failpoint {
    at: Option<AbortAt>,
    begun: AtomicU64,
}

impl Failpoint {
    pub(crate) fn new(at: Option<AbortAt>) -> Self {
        Self { at, begun: AtomicU64::new(0) }
    }

    /// To be called before a step; gives its number, from 1.
    pub(crate) fn before(&self, op: &impl Display) -> u64 {
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        self.end_at(AbortAt::Before(number), op);
        number
    }

    /// To be called when the step with that number has succeeded.
    pub(crate) fn after(&self, number: u64, op: &impl Display) {
        self.end_at(AbortAt::After(number), op);
    }

    fn end_at(&self, here: AbortAt, op: &impl Display) {
        if self.at == Some(here) {
            warn!(%op, "Ending {here}, as --abort-at says.");
            // No destructor, no handler: what a power cut would leave.
            std::process::abort();
        }
    }
}
