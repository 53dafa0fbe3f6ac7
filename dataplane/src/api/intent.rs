//! Changes of what people want. A change says what it would do before it is written, and is written only onto what it
//! was made of.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;

use super::Api;
use super::error::Refusal;
use super::routes::{Answer, Asked};
use super::types::{Accepted, Deploy, ErrorBody, Rollback, Scale};
use super::validate::validate;
use crate::agent::{Desired, desired, predict};
use crate::capacity;
use crate::controller::{self, ControllerError, State as Assignments};
use crate::memory::Large;
use crate::model::file::Wanted;
use crate::model::{Deployment, DeploymentState, Discard, EnvironmentKey, EnvironmentSpec, ServiceKey, ServiceSpec};
use crate::store::schema::Versioned;
use crate::store::{Outcome, Txn, schema};

/// So often is a change made again because what it was made of changed at the same moment.
const TRIES: usize = 5;

/// Whether to do it, or to say what would be done.
#[derive(Debug, Default, Clone, Copy, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Dry {
    /// Change nothing; answer with the plan.
    #[serde(default)]
    dry_run: bool,
}

/// Makes an environment what the body says. A deployment of it that failed is tried again.
#[utoipa::path(put, path = "/v1/environments/{project}/{environment}", params(Dry), request_body = Wanted,
    responses((status = 200, body = Accepted), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn put(
    State(api): State<Api>,
    Path(key): Path<EnvironmentKey>,
    dry: Asked<Dry>,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Answer<Accepted> {
    let _given_back = Large;
    let (Query(dry), Json(wanted)) = (dry?, body?);
    validate(&key, &wanted.spec)?;
    let Wanted { spec, contents } = api.named(wanted)?;
    if !dry.dry_run {
        api.secrets.keep_contents(&key, &contents).await?;
    }
    let accepted = api
        .change(&key, dry, |state| {
            let before = state.intents.get(&key).map(|intent| &intent.value);
            let mut spec = spec.clone();
            for (name, service) in &mut spec.services {
                let before = before.and_then(|before| before.services.get(name));
                service.attempt = before.map_or(0, |before| before.attempt);
                let key = ServiceKey { environment: key.clone(), service: name.clone() };
                let latest = state.deployments_of(&key).last().map(|latest| &latest.value);
                let failed = latest.filter(|latest| latest.state == DeploymentState::Failed);
                service.attempt += u32::from(failed.is_some_and(|latest| latest.spec.same_deployment(service)));
            }
            Ok(Some(spec))
        })
        .await?;
    if !dry.dry_run {
        // Somebody may have taken them for surplus before anything named them.
        api.secrets.keep_contents(&key, &contents).await?;
        api.sweep(Some(&key)).await?;
    }
    Ok(accepted)
}

/// Deploys a service anew: with another image, or just so.
#[utoipa::path(post, path = "/v1/environments/{project}/{environment}/services/{service}/deploy", params(Dry),
    request_body = Deploy,
    responses((status = 200, body = Accepted), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn deploy(
    State(api): State<Api>,
    Path(key): Path<ServiceKey>,
    dry: Asked<Dry>,
    body: Result<Json<Deploy>, JsonRejection>,
) -> Answer<Accepted> {
    let (Query(dry), Json(Deploy { image })) = (dry?, body?);
    api.change_service(&key, dry, |service, _| {
        match image.clone().filter(|image| *image != service.image) {
            Some(image) => service.image = image,
            None => service.attempt += 1,
        }
        Ok(())
    })
    .await
}

/// Deploys an older version of a service again, from the very image that it had.
#[utoipa::path(post, path = "/v1/environments/{project}/{environment}/services/{service}/rollback", params(Dry),
    request_body = Rollback,
    responses((status = 200, body = Accepted), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn rollback(
    State(api): State<Api>,
    Path(key): Path<ServiceKey>,
    dry: Asked<Dry>,
    body: Result<Json<Rollback>, JsonRejection>,
) -> Answer<Accepted> {
    let (Query(dry), Json(Rollback { to })) = (dry?, body?);
    // Asked for beforehand: what is gone cannot be gone back to.
    let state = Assignments::load(api.store.as_ref()).await?;
    let image = older(&state, &key, to)?.image.clone();
    if let Some(image) = image.filter(|image| image.starts_with("sha256:"))
        && api.observer.image(&image).await?.is_none()
    {
        let error = format!("its image {image} came from no registry and is not on this node any more");
        return Err(Refusal::new(StatusCode::CONFLICT, error, "build or load it again, and deploy that"));
    }
    api.change_service(&key, dry, |service, state| {
        let older = older(state, &key, to)?;
        let image = older.image.clone().unwrap_or_else(|| older.spec.image.clone());
        let (replicas, stopped, attempt) = (service.replicas, service.stopped, service.attempt + 1);
        *service = ServiceSpec { image, replicas, stopped, attempt, ..older.spec.clone() };
        Ok(())
    })
    .await
}

/// Changes the number of replicas.
#[utoipa::path(post, path = "/v1/environments/{project}/{environment}/services/{service}/scale", params(Dry),
    request_body = Scale,
    responses((status = 200, body = Accepted), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn scale(
    State(api): State<Api>,
    Path(key): Path<ServiceKey>,
    dry: Asked<Dry>,
    body: Result<Json<Scale>, JsonRejection>,
) -> Answer<Accepted> {
    let (Query(dry), Json(Scale { replicas })) = (dry?, body?);
    api.change_service(&key, dry, |service, _| {
        (service.replicas, service.stopped) = (replicas, None);
        Ok(())
    })
    .await
}

/// The version to go back to: that one, or the last that served before the one that does.
fn older<'a>(state: &'a Assignments, key: &ServiceKey, to: Option<u32>) -> Result<&'a Deployment, Refusal> {
    let serving =
        state.services.get(key).ok_or_else(|| Refusal::no_service(key, state.services.keys()))?.value.deployment;
    let mut all = state.deployments_of(key).map(|deployment| &deployment.value);
    let found = match to {
        Some(number) => all.find(|deployment| deployment.key.deployment == number),
        None => all.filter(|deployment| deployment.served && deployment.key.deployment < serving).last(),
    };
    found.ok_or_else(|| {
        let error = match to {
            Some(number) => format!("deployment {number} of {key} is not known"),
            None => format!("{key} has no older version that ever served"),
        };
        Refusal::new(StatusCode::NOT_FOUND, error, "see `skepctl history SERVICE` for those there are")
    })
}

fn being_discarded(wish: &Discard) -> Refusal {
    let problem = wish.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
    let error = format!("the volumes of {} are still being removed{problem}", wish.key);
    Refusal::new(StatusCode::CONFLICT, error, "try again when `skepctl down --volumes` has come to its end")
}

impl Dry {
    /// For what has further options.
    pub(super) fn new(dry_run: bool) -> Self {
        Self { dry_run }
    }

    /// Whether nothing is to be changed.
    pub(super) fn is_dry(self) -> bool {
        self.dry_run
    }
}

impl Api {
    /// Changes one service of an environment.
    pub(super) async fn change_service(
        &self,
        key: &ServiceKey,
        dry: Dry,
        change: impl Fn(&mut ServiceSpec, &Assignments) -> Result<(), Refusal>,
    ) -> Answer<Accepted> {
        self.change(&key.environment, dry, |state| {
            let intent =
                state.intents.get(&key.environment).ok_or_else(|| Refusal::no_environment(&key.environment))?;
            let mut spec = intent.value.clone();
            let service =
                spec.services.get_mut(&key.service).ok_or_else(|| Refusal::no_service(key, state.services.keys()))?;
            change(service, state)?;
            Ok(Some(spec))
        })
        .await
    }

    /// Changes what an environment is to be.
    pub(super) async fn change(
        &self,
        key: &EnvironmentKey,
        dry: Dry,
        change: impl Fn(&Assignments) -> Result<Option<EnvironmentSpec>, Refusal>,
    ) -> Answer<Accepted> {
        self.change_and(key, dry, false, change).await
    }

    /// The same; `discard`: what it stored goes with it.
    pub(super) async fn change_and(
        &self,
        key: &EnvironmentKey,
        dry: Dry,
        discard: bool,
        change: impl Fn(&Assignments) -> Result<Option<EnvironmentSpec>, Refusal>,
    ) -> Answer<Accepted> {
        for _ in 0..TRIES {
            let mut state = Assignments::load(self.store.as_ref()).await?;
            let before = state.intents.get(key).cloned();
            let after = change(&state)?;
            let (wish, wished) = (schema::discard(key), state.discards.get(key).cloned());
            if after.is_some()
                && let Some(wished) = &wished
            {
                return Err(being_discarded(&wished.value));
            }
            let value = Discard { key: key.clone(), problem: None };
            if discard {
                state.discards.insert(key.clone(), Versioned { value: value.clone(), revision: state.revision });
            }
            if let Some(spec) = &after {
                validate(key, spec)?;
            }
            let mut stages = Vec::new();
            controller::preview(state, &self.config.pools(), key, after.clone(), |stage| {
                // What is taken away needs no room.
                if after.is_some() {
                    capacity::check(stage, &self.config.map_sizes).map_err(ControllerError::Condition)?;
                }
                stages.extend(dry.dry_run.then(|| stage.clone()));
                Ok(())
            })?;
            if dry.dry_run {
                return self.plan(key.clone(), &stages).await;
            }
            let accepted = |revision| Ok(Json(Accepted { key: key.clone(), revision, plan: None, kept: None }));
            if let Some(before) = before.as_ref().filter(|before| Some(&before.value) == after.as_ref()) {
                return accepted(before.revision);
            }
            let intent = schema::intent(key);
            let txn = Txn::default().when(&intent, before.map(|before| before.revision));
            let txn = txn.when(&wish, wished.map(|wished| wished.revision));
            let txn = if discard { txn.put(&wish, &value)? } else { txn };
            let txn = match &after {
                Some(spec) => txn.put(&intent, spec)?,
                None => txn.delete(&intent),
            };
            if let Outcome::Committed(revision) = self.store.txn(txn).await? {
                return accepted(revision);
            }
        }
        Err(Refusal::new(StatusCode::CONFLICT, format!("{key} is being changed by others"), "try again"))
    }

    /// What this node would do, stage by stage.
    async fn plan(&self, key: EnvironmentKey, stages: &[Assignments]) -> Answer<Accepted> {
        let (mut plan, mut observed, mut revision) = (Vec::new(), None, 0);
        for stage in stages {
            let wanted = self.desired(stage);
            let mut now = match observed.take() {
                Some(mut now) => {
                    // Of what is made only now.
                    self.observer.images(&wanted, &mut now).await?;
                    now
                }
                None => self.observer.observe(&wanted).await?,
            };
            plan.extend(predict::simulate(&wanted, &mut now).iter().map(ToString::to_string));
            (observed, revision) = (Some(now), stage.revision);
        }
        Ok(Json(Accepted { key, revision, plan: Some(plan), kept: None }))
    }

    /// What this node should be.
    fn desired(&self, assignments: &Assignments) -> Desired {
        let (name, id) = (self.node.name.clone(), self.node.id);
        Desired::of(assignments, &desired::Node { name, id, config: Arc::clone(&self.config) })
    }
}
