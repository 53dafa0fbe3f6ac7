use super::DaemonError;
use crate::agent::unknown;
use crate::config::Config;
use crate::docker::{Docker, DockerError};
use crate::store::Store;

/// Refuses a store that knows nothing of a replica that is here. While Docker is silent nobody can tell; the agent asks
/// again before it takes anything away.
pub(super) async fn refuse(store: &dyn Store, docker: &Docker, config: &Config) -> Result<(), DaemonError> {
    let here = match docker.keys(&config.node_name).await {
        Ok(here) => here,
        Err(DockerError::Unavailable { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let replicas = unknown(store, &config.node_name, &here).await?;
    if replicas.is_empty() {
        return Ok(());
    }
    Err(DaemonError::Unknown { state_dir: config.state_dir.clone(), replicas })
}
