//! What those who watch beside the agent's turns are made of.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;

/// A task that ends with its value.
#[derive(Debug)]
pub(super) struct Task(JoinHandle<()>);

impl Task {
    /// Begins `work`.
    pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// For what is changed by one assignment, insertion or removal: a panic leaves nothing half done.
pub(super) fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
