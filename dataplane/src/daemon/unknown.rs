//! A store that is older than what runs must not decide about it.

use std::collections::BTreeSet;

use super::DaemonError;
use crate::config::Config;
use crate::docker::Docker;
use crate::store::{Store, StoreError, schema};

/// Refuses a store that knows nothing of a replica that is here. Each replica is assigned before its first container is
/// made, and has a status until its last one is gone: one with neither was assigned after the store was written.
pub(super) async fn refuse(store: &dyn Store, docker: &Docker, config: &Config) -> Result<(), DaemonError> {
    let mut known = BTreeSet::new();
    let (assigned, seen) = (schema::replicas_of(&config.node_name), schema::statuses_of(&config.node_name));
    for prefix in [assigned.as_str(), seen.as_str()] {
        for entry in store.range(prefix).await?.entries {
            known.insert(schema::replica_of(&entry.key).ok_or(StoreError::Key { key: entry.key })?);
        }
    }
    let here = docker.keys(&config.node_name).await?;
    let unknown: Vec<String> = here.difference(&known).map(ToString::to_string).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(DaemonError::Unknown { state_dir: config.state_dir.clone(), replicas: unknown })
}
