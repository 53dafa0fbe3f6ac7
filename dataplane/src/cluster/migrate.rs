//! One node's state becomes the cluster's.

use crate::backup::revive;
use crate::config::Config;
use crate::store::{Compare, Embedded, Outcome, Snapshot, Store, StoreError, Txn, Write};

/// Changes in a transaction: etcd takes 128.
const BATCH: usize = 100;

/// What this node has in its own store, but for what is seen anew; if it has one.
///
/// # Errors
/// [`StoreError`] when it cannot be read.
pub(super) fn own(config: &Config) -> Result<Option<Snapshot>, StoreError> {
    let path = config.store_file();
    if !path.exists() {
        return Ok(None);
    }
    revive::moved(Embedded::read(&path)?, &config.node_name, &config.node_name).map(Some)
}

/// Writes a snapshot where nothing is yet: all of it, or nothing.
///
/// # Errors
/// [`StoreError::Occupied`] when there is something, else why it cannot be written.
pub(crate) async fn fill(store: &dyn Store, snapshot: &Snapshot) -> Result<(), StoreError> {
    let keys = store.range("").await?.entries.len();
    if keys > 0 {
        return Err(StoreError::Occupied { keys });
    }
    let entries: Vec<_> = snapshot.range("");
    for (done, part) in entries.chunks(BATCH).enumerate() {
        let compare = part.iter().map(|entry| Compare::Absent(entry.key.clone())).collect();
        let put = |entry: &crate::store::Entry| {
            let (key, value) = (entry.key.clone(), entry.value.clone());
            Write::Put { key, value, lease: None }
        };
        let written = store.txn(Txn { compare, then: part.iter().map(put).collect() }).await;
        let failed = match written {
            Ok(Outcome::Committed(_)) => continue,
            Ok(Outcome::Conflict) => StoreError::Occupied { keys: part.len() },
            Err(error) => error,
        };
        // Those of before are nobody else's; whether they can be taken back or not, why it failed is what counts.
        for part in entries.chunks(BATCH).take(done) {
            let then = part.iter().map(|entry| Write::Delete(entry.key.clone())).collect();
            let _taken_back = store.txn(Txn { compare: Vec::new(), then }).await;
        }
        return Err(failed);
    }
    Ok(())
}
