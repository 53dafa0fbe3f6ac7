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
use crate::credentials::{self, Access, Origin, RotateError, Statement};
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
        return Err(Refusal::no_service(&key, state.services.keys()));
    }
    let kept = api.secrets.kept(&key.environment).await?;
    let record = kept.get(&key.service).cloned();
    let record = record.filter(|_| credentials::is_generated(&intent.value, &key.service)).ok_or_else(|| {
        let error = format!("the password of {key} is not Skep's: it has none, or its user set it");
        Refusal::new(StatusCode::CONFLICT, error, "change it where it was set, or leave that variable out")
    })?;
    let made = made(&kept);
    let redeployed = |state: &Assignments| -> Result<Option<EnvironmentSpec>, Refusal> {
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
    };
    if !dry.is_dry() {
        // What cannot be deployed anew must not lose its password before that is found out.
        let Json(_possible) = api.change(&key.environment, Dry::new(true), &redeployed).await?;
        api.change_password(&key, &state, &intent.value, record, password.map(Secret::new)).await?;
    }
    api.change(&key.environment, dry, &redeployed).await
}

impl Api {
    /// Tells the database, between two writes: whatever happens meanwhile, the store knows every password that it may have.
    async fn change_password(
        &self,
        key: &ServiceKey,
        state: &Assignments,
        environment: &EnvironmentSpec,
        record: Versioned<KeptCredentials>,
        password: Option<Secret>,
    ) -> Result<(), Refusal> {
        let container = self.running(key, state)?;
        let access = credentials::access(environment, &key.service, Some(&record.value.credentials));
        let database =
            Told { api: self, key, container, access: access.ok_or_else(|| refused(key, RotateError::Open))? };
        let record = database.settled(record).await?;
        let new = password.map_or_else(|| credentials::password().map_err(|error| Refusal::internal(&error)), Ok)?;
        let old = record.value.credentials.password.clone().ok_or_else(|| refused(key, RotateError::Open))?;
        // What no database takes is refused before it is written down.
        database.statement(&old, &new)?;
        let changing = record.value.changing(new.clone());
        let revision = self.secrets.write(key, &changing, Some(record.revision)).await?;
        let record = Versioned { value: changing, revision };
        if database.takes(&old, &new).await? {
            return database.write(&record, record.value.clone().changed(unix() / 1000)).await.map(drop);
        }
        database.settled(record).await?;
        let error = format!("{key} did not take another password; it has the one before");
        Err(Refusal::new(StatusCode::CONFLICT, error, "see its log, and try again"))
    }

    /// A container of the service that runs on this node.
    fn running(&self, key: &ServiceKey, state: &Assignments) -> Result<String, Refusal> {
        let replicas = state.replicas_of_service(key).map(|replica| &replica.value);
        let (here, elsewhere): (Vec<_>, Vec<_>) = replicas.partition(|replica| replica.node == self.node.name);
        let statuses = here.iter().filter_map(|replica| state.status_of(&replica.key));
        let mut running = statuses.filter(|status| status.state == ReplicaState::Running);
        running.find_map(|status| status.container.clone()).ok_or_else(|| {
            let error = format!("no replica of {key} runs on this node: it cannot be told another password");
            let remedy = elsewhere.first().map_or_else(
                || "see `skepctl ps`, and try again when one does".to_owned(),
                |replica| format!("run the same on node {}", replica.node),
            );
            Refusal::new(StatusCode::CONFLICT, error, remedy)
        })
    }
}

/// A database in a container, which is told passwords.
struct Told<'a> {
    api: &'a Api,
    key: &'a ServiceKey,
    container: String,
    access: Access,
}

impl Told<'_> {
    fn statement(&self, old: &Secret, new: &Secret) -> Result<Statement, Refusal> {
        let access = Access { password: Some(old.clone()), ..self.access.clone() };
        access.change(new).map_err(|error| refused(self.key, error))
    }

    /// Whether it has the password `new` now, after it was told so by whom it knows by `old`.
    async fn takes(&self, old: &Secret, new: &Secret) -> Result<bool, Refusal> {
        let statement = self.statement(old, new)?;
        let variables =
            statement.environment.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect();
        let (argv, stdin) = (statement.argv.clone(), statement.stdin.expose().as_bytes());
        let ran = self.api.observer.exec(&self.container, argv, variables, stdin).await?;
        Ok(statement.succeeded(ran.status, &ran.stdout))
    }

    /// The record after a change that was broken off: the database has one of the two passwords, and the one that it lets
    /// in is it.
    async fn settled(&self, record: Versioned<KeptCredentials>) -> Result<Versioned<KeptCredentials>, Refusal> {
        let Some(begun) = &record.value.next else { return Ok(record) };
        if self.takes(begun, begun).await? {
            return self.write(&record, record.value.clone().changed(unix() / 1000)).await;
        }
        match &record.value.credentials.password {
            Some(old) if self.takes(old, old).await? => self.write(&record, record.value.clone().unchanged()).await,
            _ => {
                let error = format!("{} does not say whether it has taken another password", self.key);
                Err(Refusal::new(StatusCode::CONFLICT, error, "see its log, and try again: both passwords are kept"))
            }
        }
    }

    async fn write(
        &self,
        before: &Versioned<KeptCredentials>,
        value: KeptCredentials,
    ) -> Result<Versioned<KeptCredentials>, Refusal> {
        let revision = self.api.secrets.write(self.key, &value, Some(before.revision)).await?;
        Ok(Versioned { value, revision })
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

fn refused(key: &ServiceKey, error: RotateError) -> Refusal {
    Refusal::new(StatusCode::CONFLICT, format!("{key}: {error}"), "see `skepctl secrets list`")
}
