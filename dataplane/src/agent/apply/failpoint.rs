//! For tests of what is left when the daemon dies: it ends by itself right before or right after an op.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::warn;

use super::super::op::Op;
use crate::config::AbortAt;

/// Counts ops since the daemon's start. Without [`AbortAt`] it does nothing.
#[derive(Debug)]
pub(in super::super) struct Failpoint {
    at: Option<AbortAt>,
    begun: AtomicU64,
}

impl Failpoint {
    pub(in super::super) fn new(at: Option<AbortAt>) -> Self {
        Self { at, begun: AtomicU64::new(0) }
    }

    /// To be called before an op; gives its number, from 1.
    pub(super) fn before(&self, op: &Op) -> u64 {
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        self.end_at(AbortAt::Before(number), op);
        number
    }

    /// To be called when the op with that number has succeeded.
    pub(super) fn after(&self, number: u64, op: &Op) {
        self.end_at(AbortAt::After(number), op);
    }

    fn end_at(&self, here: AbortAt, op: &Op) {
        if self.at == Some(here) {
            warn!(%op, "Ending {here}, as --abort-at says.");
            // No destructor, no handler: what a power cut would leave.
            std::process::abort();
        }
    }
}
