//! What is done behind the writers' backs: a copy soon after each change, and a smaller file when it has grown.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::{Shared, blocking, copies};
use crate::store::StoreError;

/// Between a change and its copy: changes come in flocks.
const PAUSE: Duration = Duration::from_millis(500);
/// At most this part of the time is spent on copies.
const SHARE: u32 = 20;
/// Pause after a copy that failed.
const RETRY: Duration = Duration::from_secs(5);
/// A file below this is never too large.
const SMALL: u64 = 4 << 20;
/// So much larger than its content a file may be: redb never overwrites what is in use, and grows by doubling.
const SLACK: u64 = 8;

/// Whether a file of `length` octets is worth writing anew for `content` octets.
pub(super) fn is_bloated(length: u64, content: u64) -> bool {
    length > SMALL.max(content.saturating_mul(SLACK))
}

/// Holds the store only while it works, so that the file is closed with its last handle.
pub(super) async fn run(changed: Arc<Notify>, shared: Weak<Shared>) {
    let mut told = None;
    loop {
        changed.notified().await;
        sleep(PAUSE).await;
        loop {
            let Some(shared) = shared.upgrade() else { return };
            let begun = Instant::now();
            let result = blocking(&shared, Shared::keep).await;
            drop(shared);
            let Err(error) = result else {
                if told.take().is_some() {
                    tracing::info!("The store has a copy of its latest change again.");
                }
                sleep(begun.elapsed() * SHARE).await;
                break;
            };
            // Once, not every few seconds.
            let error = error.to_string();
            if told.as_ref() != Some(&error) {
                tracing::warn!(error, "Cannot keep a copy of the store; trying again.");
                told = Some(error);
            }
            sleep(RETRY).await;
        }
    }
}

impl Shared {
    /// Compacts if that is worth it, then copies.
    fn keep(&self) -> Result<(), StoreError> {
        let content = self.image().size();
        if is_bloated(self.file().length()?, content) {
            self.compact()?;
        }
        let snapshot = self.image().clone();
        copies::write(&self.path, &snapshot)
    }
}
