//! Takes away what nothing needs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::Api;
use super::error::Refusal;
use super::routes::Answer;
use super::types::{ErrorBody, Prunable, Prune, PruneRow};
use crate::controller::State as Assignments;
use crate::model::{Deployment, DeploymentKey, Discard, EnvironmentKey, Pulled};
use crate::store::schema::{self, Subject, Versioned};
use crate::store::{Outcome, StoreError, Txn};

mod surplus;

/// So many deployments of each service stay unless more or fewer are asked for.
const KEEP: u32 = 10;
/// About as many writes go into one transaction.
const WRITES_MAX: usize = 48;
/// An engine that is busy removes a volume in seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Removes deployments beyond the last ones, images that were pulled for them, and, if that is asked for, what gone
/// environments have stored. Answers with what it was, or would be.
#[utoipa::path(post, path = "/v1/prune", request_body = Prune,
    responses((status = 200, body = Vec<PruneRow>), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn prune(State(api): State<Api>, body: Result<Json<Prune>, JsonRejection>) -> Answer<Vec<PruneRow>> {
    let Json(Prune { dry_run, volumes, keep }) = body?;
    let state = Assignments::load(api.store.as_ref()).await?;
    let keep = usize::try_from(keep.unwrap_or(KEEP)).unwrap_or(usize::MAX);
    let old: Vec<Deployment> = surplus::deployments(&state, keep).into_iter().cloned().collect();
    let mut rows: Vec<PruneRow> = old.iter().map(of_deployment).collect();
    if !dry_run {
        api.forget(&state, &old).await?;
        api.sweep(None).await?;
    }
    rows.extend(api.images(&state, &old, dry_run).await?);
    if volumes {
        let (gone, stored) = api.stored_by_gone(&state).await?;
        rows.extend(stored);
        if !dry_run {
            api.discard(&gone).await?;
        }
    }
    Ok(Json(rows))
}

fn of_deployment(deployment: &Deployment) -> PruneRow {
    let why = match &deployment.reason {
        Some(reason) => format!("{}: {reason}", deployment.state),
        None => deployment.state.to_string(),
    };
    PruneRow { kind: Prunable::Deployment, name: deployment.key.to_string(), why }
}

impl Api {
    async fn forget(&self, state: &Assignments, old: &[Deployment]) -> Result<(), Refusal> {
        for some in old.chunks(WRITES_MAX) {
            let mut txn = Txn::default();
            for deployment in some {
                let key = schema::deployment(&deployment.key);
                let revision = state.deployments.get(&deployment.key).map(|known| known.revision);
                txn = txn.when(&key, revision).delete(&key);
            }
            self.write(txn).await?;
        }
        Ok(())
    }

    /// The images that skepd has pulled for what is no more.
    async fn images(&self, state: &Assignments, old: &[Deployment], dry: bool) -> Result<Vec<PruneRow>, Refusal> {
        let key = schema::pulled(&self.node.name);
        let Some(Versioned { value: mut pulled, revision }) = schema::get_json(self.store.as_ref(), &key).await? else {
            return Ok(Vec::new());
        };
        let before = pulled.clone();
        let without: BTreeSet<DeploymentKey> = old.iter().map(|deployment| deployment.key.clone()).collect();
        let mut rows = Vec::new();
        for image in surplus::images(state, &before, &without) {
            // Who built or pulled another one under this name since wants to keep it.
            let is_it = self.observer.image(image).await?.as_ref() == before.images.get(image);
            let is_removed = is_it && (dry || self.observer.remove_image(image).await?);
            if is_removed {
                let why = "pulled by skepd, and no deployment that is left needs it".to_owned();
                rows.push(PruneRow { kind: Prunable::Image, name: image.to_owned(), why });
            }
            if is_removed || !is_it {
                pulled.images.remove(image);
            }
        }
        if !dry && pulled != before {
            // Whatever was pulled meanwhile is in the newer one; what is gone is found to be so the next time.
            let txn = Txn::default().when(&key, Some(revision)).put::<Pulled>(&key, &pulled)?;
            self.store.txn(txn).await?;
        }
        Ok(rows)
    }

    /// Environments that are gone and have stored something, and what that is.
    async fn stored_by_gone(&self, state: &Assignments) -> Result<(BTreeSet<EnvironmentKey>, Vec<PruneRow>), Refusal> {
        let is_gone = |key: &EnvironmentKey| surplus::is_gone(state, key);
        let (mut gone, mut rows) = (BTreeSet::new(), Vec::new());
        let elsewhere = state.volumes.iter().filter(|(_, assigned)| assigned.value.node != self.node.name);
        let elsewhere = elsewhere.map(|(key, _)| (key.environment.clone(), key.volume.clone()));
        let here = self.observer.volumes().await?.into_iter().map(|found| (found.environment, found.volume));
        let volumes: BTreeSet<(EnvironmentKey, String)> = elsewhere.chain(here).collect();
        let mut add = |kind, key: EnvironmentKey, name: &str| {
            let why = format!("the environment {key} is gone");
            rows.push(PruneRow { kind, name: format!("{key}/{name}"), why });
            gone.insert(key);
        };
        for (key, volume) in volumes.into_iter().filter(|(key, _)| is_gone(key)) {
            add(Prunable::Volume, key, &volume);
        }
        for entry in self.store.range(schema::secrets().as_str()).await?.entries {
            let Some(Subject::Secret(service)) = Subject::of(&entry.key) else { continue };
            if is_gone(&service.environment) {
                add(Prunable::Credentials, service.environment, &service.service);
            }
        }
        Ok((gone, rows))
    }

    /// Has the agent remove what these environments have stored, unless they are there again, and waits for it.
    async fn discard(&self, gone: &BTreeSet<EnvironmentKey>) -> Result<(), Refusal> {
        let mut written = 0;
        for key in gone {
            let wish = schema::discard(key);
            let before = schema::get_json(self.store.as_ref(), &wish).await?.map(|wish| wish.revision);
            let txn = Txn::default().when(&schema::intent(key), None).when(&schema::environment(key), None);
            let txn = txn.when(&wish, before).put(&wish, &Discard { key: key.clone(), problem: None })?;
            written = self.write(txn).await?;
        }
        if gone.is_empty() { Ok(()) } else { self.until_discarded(gone, written).await }
    }

    async fn until_discarded(&self, gone: &BTreeSet<EnvironmentKey>, written: u64) -> Result<(), Refusal> {
        let deadline = Instant::now() + PATIENCE;
        let mut changes = self.store.watch(schema::discards().as_str(), written).await?;
        loop {
            let (left, _) = schema::range_json(self.store.as_ref(), &schema::discards()).await?;
            let left: BTreeMap<_, _> = left.into_iter().map(|wish| (wish.value.key, wish.value.problem)).collect();
            let left: Vec<_> = left.into_iter().filter(|(key, _)| gone.contains(key)).collect();
            if left.is_empty() {
                return Ok(());
            }
            if left.iter().all(|(_, problem)| problem.is_some()) {
                return Err(stuck(left));
            }
            match timeout_at(deadline, changes.next()).await {
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(None) => return Err(StoreError::Compacted { after: written, kept: written }.into()),
                Err(_) => return Err(stuck(left)),
            }
        }
    }

    async fn write(&self, txn: Txn) -> Result<u64, Refusal> {
        match self.store.txn(txn).await? {
            Outcome::Committed(revision) => Ok(revision),
            Outcome::Conflict => {
                let error = "what was to be removed is being changed at this moment";
                Err(Refusal::new(StatusCode::CONFLICT, error, "try again"))
            }
        }
    }
}

fn stuck(left: Vec<(EnvironmentKey, Option<String>)>) -> Refusal {
    let problem = |(key, problem): (EnvironmentKey, Option<String>)| {
        format!("{key}: {}", problem.unwrap_or_else(|| "it takes long".into()))
    };
    let problems: Vec<String> = left.into_iter().map(problem).collect();
    let error = format!("not everything is removed yet ({})", problems.join("; "));
    Refusal::new(StatusCode::CONFLICT, error, "skepd goes on with it as soon as it can")
}
