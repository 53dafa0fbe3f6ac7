//! A store that is older than what runs must not decide about it.

use std::collections::BTreeSet;

use crate::model::ReplicaKey;
use crate::store::{Store, StoreError, schema};

/// Which of the replicas that are here the store knows nothing of. Each replica is assigned before its first container is
/// made, and has a status until its last one is gone: one with neither was assigned after the store was written.
pub(crate) async fn unknown(
    store: &dyn Store,
    node: &str,
    here: &BTreeSet<ReplicaKey>,
) -> Result<Vec<String>, StoreError> {
    let mut known = BTreeSet::new();
    let (assigned, seen) = (schema::replicas_of(node), schema::statuses_of(node));
    for prefix in [assigned.as_str(), seen.as_str()] {
        for entry in store.range(prefix).await?.entries {
            known.insert(schema::replica_of(&entry.key).ok_or(StoreError::Key { key: entry.key })?);
        }
    }
    Ok(here.difference(&known).map(ToString::to_string).collect())
}
