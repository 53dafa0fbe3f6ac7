//! Commands in containers of their own, each of which is there for as long as whoever asked for it is.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::StreamExt as _;
use tracing::warn;

use super::Api;
use super::channels::PROTOCOL;
use super::error::Refusal;
use super::inside::{command, converse, switching, upgrade};
use super::types::ErrorBody;
use crate::agent::in_one_line;
use crate::controller::State as Assignments;
use crate::docker::Command;
use crate::model::{Deployment, OneOff, ReplicaAssignment, ReplicaState, ReplicaStatus, ServiceKey};
use crate::store::schema::{self, Subject, decode, get_json, range_json};
use crate::store::{Event, Outcome, Revision, Store, StoreError, Txn};

/// So often is one asked for again because what it was made of changed at the same moment.
const TRIES: usize = 5;
/// Pause after a failure of the store.
const RETRY: Duration = Duration::from_secs(1);

/// Runs a command in a container of its own, like those of the service and on this node. What it reads and says goes over
/// the connection, which has channels from then on; the container goes with it.
#[utoipa::path(post, path = "/v1/environments/{project}/{environment}/services/{service}/run", request_body = Command,
    responses((status = 101), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn run(
    State(api): State<Api>,
    Path(key): Path<ServiceKey>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let upgrade = upgrade(&mut request, PROTOCOL)?;
    let command = command(request).await?;
    let (claim, of) = Claim::ask(&api, &key).await?;
    let container = claim.begun().await?;
    // As the engine would start it, were it the container's own.
    let entrypoint = match of.spec.entrypoint {
        Some(entrypoint) => entrypoint,
        None => {
            let image = claim.assigned().await?.reference().to_owned();
            api.observer.entrypoint(&image).await?
        }
    };
    let command = Command { command: [entrypoint, command.command].concat(), ..command };
    let attached = api.observer.attach(&container, &command).await?;
    tokio::spawn(async move {
        // However it breaks, both ends see it.
        if let Ok(connection) = upgrade.await {
            let _gone = converse(&api.observer, attached, connection).await;
        }
        drop(claim);
    });
    Ok(switching(PROTOCOL))
}

/// Takes away those of this node whose commands nobody hears any more: this daemon is not the one that began them.
pub(super) async fn sweep(api: &Api) {
    let swept = async {
        let (all, _) = range_json(api.store.as_ref(), &schema::one_offs()).await?;
        for left in all.iter().filter(|left| left.value.node == api.node.name) {
            let key = schema::one_off(&left.value.key);
            api.store.txn(Txn::default().when(&key, Some(left.revision)).delete(&key)).await?;
        }
        Ok::<(), StoreError>(())
    };
    if let Err(error) = swept.await {
        let error = in_one_line(&error);
        warn!(error, "Commands of the daemon before this one keep their containers until the next start.");
    }
}

/// A container for a command. It goes when this is dropped.
struct Claim {
    store: Arc<dyn Store>,
    asked: OneOff,
    /// Of the record.
    revision: Revision,
}

impl Claim {
    /// Asks for one, like those of the version that serves, which comes with it.
    async fn ask(api: &Api, service: &ServiceKey) -> Result<(Self, Deployment), Refusal> {
        for _ in 0..TRIES {
            let state = Assignments::load(api.store.as_ref()).await?;
            let known = state.services.get(service).filter(|service| !service.value.leaving);
            let known = known.ok_or_else(|| Refusal::no_service(service, state.services.keys()))?;
            let serving = state.deployments.get(&service.deployment(known.value.deployment));
            let of = serving.ok_or_else(|| Refusal::no_service(service, []))?.value.clone();
            let (key, refused) = (service.one_off(free_number(&state, service)), None);
            let asked = OneOff { key, of: of.key.deployment, node: api.node.name.clone(), refused };
            let record = schema::one_off(&asked.key);
            let txn = Txn::default().when(&schema::service(service), Some(known.revision)).when(&record, None);
            if let Outcome::Committed(revision) = api.store.txn(txn.put(&record, &asked)?).await? {
                return Ok((Self { store: Arc::clone(&api.store), asked, revision }, of));
            }
        }
        Err(Refusal::new(StatusCode::CONFLICT, format!("{service} changes all the time"), "try again"))
    }

    /// Waits for its container: its id.
    async fn begun(&self) -> Result<String, Refusal> {
        let OneOff { key, node, .. } = &self.asked;
        let status = schema::status(node, key);
        let told = [schema::one_off(key).as_str().to_owned(), status.as_str().to_owned()];
        let [first, second] =
            [self.store.watch(&told[0], self.revision).await?, self.store.watch(&told[1], self.revision).await?];
        let mut events = futures_util::stream::select(first, second);
        while let Some(next) = events.next().await {
            for event in next? {
                if let Some(container) = self.hear(&event)? {
                    return Ok(container);
                }
            }
        }
        Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the store has ended the watch", "try again"))
    }

    /// The id of its container, once that runs.
    fn hear(&self, event: &Event) -> Result<Option<String>, Refusal> {
        let key = &self.asked.key;
        match (Subject::of(event.key()), event) {
            (Some(Subject::OneOff(of)), Event::Delete { .. }) if of == *key => {
                let error = format!("{} is gone, and {key} with it", key.service);
                Err(Refusal::new(StatusCode::CONFLICT, error, "see `skepctl services` for those that are there"))
            }
            (Some(Subject::OneOff(of)), Event::Put(entry)) if of == *key => {
                match decode::<OneOff>(entry)?.value.refused {
                    Some(why) => Err(Refusal::new(StatusCode::CONFLICT, why.message, why.remedy)),
                    None => Ok(None),
                }
            }
            (Some(Subject::Status(_, of)), Event::Put(entry)) if of == *key => runs(decode(entry)?.value),
            _ => Ok(None),
        }
    }

    async fn assigned(&self) -> Result<ReplicaAssignment, Refusal> {
        let OneOff { key, node, .. } = &self.asked;
        let assigned = get_json(self.store.as_ref(), &schema::replica(node, key)).await?;
        let gone = || Refusal::new(StatusCode::CONFLICT, format!("{key} is gone"), "try again");
        Ok(assigned.ok_or_else(gone)?.value)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let (store, key) = (Arc::clone(&self.store), self.asked.key.clone());
        // With the daemon it all ends, and the next one sweeps.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let mut told = false;
            while let Err(error) = store.txn(Txn::default().delete(&schema::one_off(&key))).await {
                if !std::mem::replace(&mut told, true) {
                    let error = in_one_line(&error);
                    warn!(one_off = %key, error, "Its container stays until the store can be written to.");
                }
                tokio::time::sleep(RETRY).await;
            }
        });
    }
}

/// The id of its container, if it runs; why it never will.
fn runs(status: ReplicaStatus) -> Result<Option<String>, Refusal> {
    match status.state {
        ReplicaState::Running => Ok(status.container),
        ReplicaState::Failed | ReplicaState::Unhealthy | ReplicaState::Exited | ReplicaState::Stopped => {
            let why = status.message.unwrap_or_else(|| format!("it is {}", status.state));
            let error = format!("{} has no container for its command: {why}", status.key);
            Err(Refusal::new(StatusCode::CONFLICT, error, "see `skepctl ps`, and the log of skepd"))
        }
        _ => Ok(None),
    }
}

/// A number that neither was just used nor is.
fn free_number(state: &Assignments, service: &ServiceKey) -> u32 {
    let asked = state.one_offs_of(service).map(|asked| &asked.value.key);
    let assigned = state.replicas_of_service(service).map(|replica| &replica.value.key);
    let told = state.statuses.keys().map(|(key, _)| key).filter(|key| key.service == *service);
    let used = asked.chain(assigned).chain(told).filter(|key| key.is_one_off());
    used.map(|key| key.replica).max().map_or(1, |last| last + 1)
}
