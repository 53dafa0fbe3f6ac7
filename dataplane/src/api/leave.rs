//! The end of an environment, and of what it stored.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::{Json, extract::Query};
use tokio::time::timeout;

use super::Api;
use super::error::Refusal;
use super::intent::Dry;
use super::routes::{Answer, Asked};
use super::types::{Accepted, ErrorBody, Kept};
use crate::model::EnvironmentKey;

/// Docker lists volumes from memory; whoever takes an environment away does not wait for one that hangs.
const PATIENCE: Duration = Duration::from_secs(2);

/// How to take an environment away.
#[derive(Debug, Default, Clone, Copy, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Leave {
    /// Change nothing; answer with the plan.
    #[serde(default)]
    dry_run: bool,
    /// With its volumes and credentials, also when the environment itself is gone already.
    #[serde(default)]
    volumes: bool,
}

/// Takes an environment away.
#[utoipa::path(delete, path = "/v1/environments/{project}/{environment}", params(Leave),
    responses((status = 200, body = Accepted), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn delete(
    State(api): State<Api>,
    Path(key): Path<EnvironmentKey>,
    leave: Asked<Leave>,
) -> Answer<Accepted> {
    let Query(Leave { dry_run, volumes }) = leave?;
    let stored = api.stored(&key).await?;
    let accepted = api.change_and(&key, Dry::new(dry_run), volumes, |state| {
        let is_there = state.intents.contains_key(&key);
        // What a `down` left, or is still leaving.
        let is_left = !stored.is_empty() || state.environments.contains_key(&key) || state.discards.contains_key(&key);
        if is_there || (volumes && is_left) { Ok(None) } else { Err(Refusal::no_environment(&key)) }
    });
    let Json(accepted) = accepted.await?;
    Ok(Json(Accepted { kept: Some(stored).filter(|stored| !volumes && !stored.is_empty()), ..accepted }))
}

impl Api {
    /// What an environment has stored. While Docker does not answer, no volumes.
    async fn stored(&self, key: &EnvironmentKey) -> Result<Kept, Refusal> {
        let volumes = match timeout(PATIENCE, self.observer.volumes()).await {
            Ok(Ok(all)) => {
                all.into_iter().filter(|found| found.environment == *key).map(|found| found.volume).collect()
            }
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        let credentials = self.secrets.kept(key).await?.into_keys().collect();
        Ok(Kept { volumes, credentials })
    }
}
