//! The credentials of databases: what there is, and their change. No value leaves this module.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;

use super::Api;
use super::error::Refusal;
use super::intent::Dry;
use super::routes::{Answer, Asked};
use super::rows::Filter;
use super::types::{Accepted, ErrorBody, Rotate, SecretRow};
use crate::clock::unix;
use crate::controller::State as Assignments;
use crate::credentials::{self, Access, Origin, RotateError};
use crate::model::spec::ServiceType;
use crate::model::{Credentials, EnvironmentSpec, KeptCredentials, ReplicaState, Secret, ServiceKey};
use crate::store::schema::Versioned;

/// What credentials there are, and who gets which variable of them.
#[utoipa::path(get, path = "/v1/secrets", params(Filter), responses((status = 200, body = Vec<SecretRow>)))]
pub(super) async fn list(State(api): State<Api>, filter: Asked<Filter>) -> Answer<Vec<SecretRow>> {
    let filter = filter?.0;
    let state = Assignments::load(api.store.as_ref()).await?;
    let mut rows = Vec::new();
    for (key, intent) in state.intents.iter().filter(|(key, _)| filter.shows(key)) {
        let kept = api.secrets.kept(key).await?;
        let made = made(&kept);
        let variables = credentials::variables(&intent.value, &made);
        for (name, Versioned { value: record, .. }) in &kept {
            let mut consumers = BTreeMap::new();
            for (service, variables) in &variables {
                let of_it = variables.iter().filter(|(_, injected)| is_of(&injected.origin, name, service));
                let names: Vec<String> = of_it.map(|(variable, _)| variable.clone()).collect();
                if !names.is_empty() {
                    consumers.insert(service.clone(), names);
                }
            }
            rows.push(SecretRow {
                project: key.project.clone(),
                environment: key.environment.clone(),
                service: name.clone(),
                version: record.version,
                made: record.made,
                volume: record.volume.clone(),
                changing: record.next.is_some(),
                consumers,
            });
        }
    }
    Ok(Json(rows))
}

/// Gives a database another password, then deploys anew whoever gets it as a variable.
#[utoipa::path(post, path = "/v1/environments/{project}/{environment}/services/{service}/rotate", params(Dry),
    request_body = Rotate,
    responses((status = 200, body = Accepted), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn rotate(
    State(api): State<Api>,
    Path(key): Path<ServiceKey>,
    dry: Asked<Dry>,
    body: Result<Json<Rotate>, JsonRejection>,
) -> Answer<Accepted> {
    let (Query(dry), Json(Rotate { password })) = (dry?, body?);
    let state = Assignments::load(api.store.as_ref()).await?;
    let intent = state.intents.get(&key.environment).ok_or_else(|| Refusal::no_environment(&key.environment))?;
    if !intent.value.services.contains_key(&key.service) {
        return Err(Refusal::no_service(&key));
    }
    let mut kept = api.secrets.kept(&key.environment).await?;
    let record = kept.get(&key.service).cloned();
    let record = record.filter(|_| credentials::is_generated(&intent.value, &key.service)).ok_or_else(|| {
        let error = format!("the password of {key} is not Skep's: it has none, or its user set it");
        Refusal::new(StatusCode::CONFLICT, error, "change it where it was set, or leave that variable out")
    })?;
    if !dry.is_dry() {
        let changed = api.change_password(&key, &state, &intent.value, record, password.map(Secret::new)).await?;
        kept.insert(key.service.clone(), changed);
    }
    let made = made(&kept);
    api.change(&key.environment, dry, |state| {
        let intent = state.intents.get(&key.environment).ok_or_else(|| Refusal::no_environment(&key.environment))?;
        let mut spec = intent.value.clone();
        let variables = credentials::variables(&spec, &made);
        for (name, service) in &mut spec.services {
            let uses = variables.get(name).into_iter().flatten().any(|(_, it)| is_of(&it.origin, &key.service, name));
            // A cache is told its password by each start.
            let is_cache = *name == key.service && service.kind == ServiceType::Cache;
            if is_cache || (uses && *name != key.service) {
                service.attempt += 1;
            }
        }
        Ok(Some(spec))
    })
    .await
}

impl Api {
    /// Tells the database, between two writes: whatever happens meanwhile, the store knows both passwords.
    async fn change_password(
        &self,
        key: &ServiceKey,
        state: &Assignments,
        environment: &EnvironmentSpec,
        record: Versioned<KeptCredentials>,
        password: Option<Secret>,
    ) -> Result<Versioned<KeptCredentials>, Refusal> {
        let container = self.running(key, state)?;
        let new = match (password, &record.value.next) {
            (Some(password), _) => password,
            // One that was broken off goes on.
            (None, Some(begun)) => begun.clone(),
            (None, None) => credentials::password().map_err(|error| Refusal::internal(&error))?,
        };
        let access = |credentials: &Credentials| credentials::access(environment, &key.service, Some(credentials));
        let old = access(&record.value.credentials).ok_or_else(|| refused(key, &RotateError::Open))?;
        let known = [Some(old.clone()), record.value.next.clone().map(|begun| Access { password: Some(begun), ..old })];
        let revision = record.revision;
        let changing = record.value.changing(new.clone());
        let revision = self.secrets.write(key, &changing, Some(revision)).await?;
        let mut done = false;
        for access in known.into_iter().flatten() {
            let statement = access.change(&new).map_err(|error| refused(key, &error))?;
            let variables = statement.environment.iter().map(|(name, value)| format!("{name}={}", value.expose()));
            let stdin = statement.stdin.expose().as_bytes();
            let argv = statement.argv.clone();
            let ran = self.observer.exec(&container, argv, variables.collect(), stdin).await?;
            done = statement.succeeded(ran.status, &ran.stdout);
            if done {
                break;
            }
        }
        if !done {
            let error = format!("{key} did not take another password; it has the one before");
            return Err(Refusal::new(StatusCode::CONFLICT, error, "see its log, and try again"));
        }
        let changed = changing.changed(unix() / 1000);
        let revision = self.secrets.write(key, &changed, Some(revision)).await?;
        Ok(Versioned { value: changed, revision })
    }

    /// A container of the service that runs on this node.
    fn running(&self, key: &ServiceKey, state: &Assignments) -> Result<String, Refusal> {
        let here = state.replicas_of_service(key).filter(|replica| replica.value.node == self.node.name);
        let statuses = here.filter_map(|replica| state.status_of(&replica.value.key));
        let mut running = statuses.filter(|status| status.state == ReplicaState::Running);
        running.find_map(|status| status.container.clone()).ok_or_else(|| {
            let error = format!("no replica of {key} runs on this node: it cannot be told another password");
            Refusal::new(StatusCode::CONFLICT, error, "see `skepctl ps`, and try again when one does")
        })
    }
}

fn made(kept: &BTreeMap<String, Versioned<KeptCredentials>>) -> BTreeMap<String, Credentials> {
    kept.iter().map(|(name, kept)| (name.clone(), kept.value.credentials.clone())).collect()
}

/// Whether a variable of `service` is of this database.
fn is_of(origin: &Origin, database: &str, service: &str) -> bool {
    match origin {
        Origin::Database(of) | Origin::Link(of) => of == database,
        Origin::Own => service == database,
        Origin::Port => false,
    }
}

fn refused(key: &ServiceKey, error: &RotateError) -> Refusal {
    Refusal::new(StatusCode::CONFLICT, format!("{key}: {error}"), "see `skepctl secrets list`")
}
