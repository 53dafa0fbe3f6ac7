//! What those who watch beside the agent's turns are made of.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) use crate::task::Task;

/// For what is changed by one assignment, insertion or removal: a panic leaves nothing half done.
pub(super) fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
