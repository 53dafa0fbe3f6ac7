//! What replicas say.

mod merge;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde::Deserialize;
use tokio::sync::mpsc;

use self::merge::Merge;
pub(super) use self::source::{OF_CONTAINER, of_container};
use super::Api;
use super::error::Refusal;
use super::routes::Asked;
use super::rows::Filter;
use super::stream::{QUEUE, from_channel, line, ndjson};
use super::types::{ErrorBody, LogEvent, LogRow};
use crate::controller::State as Assignments;
use crate::docker::LogQuery;
use crate::model::{ReplicaKey, ReplicaStatus};
use crate::store::schema;
use crate::store::{Event, StoreError};

/// How long a line waits for an earlier one of another replica.
const HOLD: Duration = Duration::from_millis(100);

/// What to tell.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only of this service.
    service: Option<String>,
    /// Only of the replica of this number.
    replica: Option<u32>,
    /// Go on with what is said from now on, by replicas that come later, too; ends when skepd does.
    #[serde(default)]
    follow: bool,
    /// Only so many lines of each replica.
    tail: Option<u32>,
    /// Only what was said since then, in seconds since the epoch.
    since: Option<u64>,
}

/// A replica, and its container.
type Speaker = (ReplicaKey, String);

/// Tells what replicas have said, all in the order of time, and which replicas are on nodes that cannot be asked.
#[utoipa::path(get, path = "/v1/logs", params(Filter, Wanted),
    responses((status = 200, body = LogEvent, content_type = "application/x-ndjson"),
        (status = "4XX", body = ErrorBody)))]
pub(super) async fn logs(
    State(api): State<Api>,
    filter: Asked<Filter>,
    wanted: Asked<Wanted>,
) -> Result<Response, Refusal> {
    let (Query(filter), Query(wanted)) = (filter?, wanted?);
    let state = Assignments::load(api.store.as_ref()).await?;
    filter.knows(wanted.service.as_deref(), state.services.keys())?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        // An error ends the stream; who follows begins again.
        if let Err(error) = tell(&api, state, &filter, &wanted, &sender).await {
            tracing::warn!(%error, "A stream of logs broke off.");
        }
    });
    Ok(ndjson(from_channel(receiver)))
}

async fn tell(
    api: &Api,
    state: Assignments,
    filter: &Filter,
    wanted: &Wanted,
    lines: &mpsc::Sender<Bytes>,
) -> Result<(), StoreError> {
    let mut changes = api.store.watch(schema::statuses().as_str(), state.revision).await?;
    let mut merge: Merge<Speaker> = Merge::new(HOLD);
    // How far each container was heard: its stream ends whenever its process does.
    let (mut heard, mut resumed) = (BTreeMap::<String, String>::new(), BTreeMap::<String, String>::new());
    let mut unheard = BTreeSet::new();
    let mut tail = wanted.tail;
    let mut news: Vec<ReplicaStatus> = state.statuses.into_values().collect();
    loop {
        let mut asking = Vec::new();
        for ReplicaStatus { key, node, container, .. } in news.into_iter().filter(|it| asked(&it.key, filter, wanted)) {
            let Some(container) = container else { continue };
            if merge.hears(&(key.clone(), container.clone())) {
                continue;
            }
            // Of those that come later, and those that speak again, everything.
            let mut query = LogQuery { follow: wanted.follow, tail, since: wanted.since };
            if let Some(time) = heard.get(&container) {
                resumed.insert(container.clone(), time.clone());
                (query.tail, query.since) = (None, seconds(time).or(wanted.since));
            }
            asking.push(async move { (source::said(api, &node, &container, query).await, key, container) });
        }
        for (said, key, container) in join_all(asking).await {
            match said {
                Ok(said) => merge.add((key, container), said),
                Err(refusal) if unheard.insert(key.clone()) => {
                    let ErrorBody { error, remedy } = refusal.body();
                    if lines.send(line(&LogEvent::Unheard { key, error, remedy })).await.is_err() {
                        return Ok(());
                    }
                }
                Err(_) => {}
            }
        }
        tail = None;
        news = loop {
            if merge.is_empty() && !wanted.follow {
                return Ok(());
            }
            let change = tokio::select! {
                next = merge.next(), if !merge.is_empty() => {
                    let Some(((key, container), said)) = next else { continue };
                    // What is asked for again begins with the second of what was heard last.
                    if resumed.get(&container).is_none_or(|last| *last < said.time) {
                        heard.insert(container, said.time.clone());
                        let row = LogRow { key, time: said.time, stderr: said.stderr, text: said.text };
                        if lines.send(line(&LogEvent::Line(row))).await.is_err() {
                            return Ok(());
                        }
                    }
                    continue;
                }
                change = changes.next(), if wanted.follow => change,
                () = lines.closed() => return Ok(()),
            };
            match change.transpose()? {
                Some(events) => break statuses(&events)?,
                None => return Ok(()),
            }
        };
    }
}

/// Since the epoch, of a time as the engine writes it.
fn seconds(time: &str) -> Option<u64> {
    u64::try_from(chrono::DateTime::parse_from_rfc3339(time).ok()?.timestamp()).ok()
}

/// What nodes tell anew.
fn statuses(events: &[Event]) -> Result<Vec<ReplicaStatus>, StoreError> {
    let told = events.iter().filter_map(|event| match event {
        Event::Put(entry) => Some(entry),
        Event::Delete { .. } => None,
    });
    told.map(|entry| Ok(schema::decode::<ReplicaStatus>(entry)?.value)).collect()
}

fn asked(key: &ReplicaKey, filter: &Filter, wanted: &Wanted) -> bool {
    filter.shows(&key.service.environment)
        && wanted.service.as_ref().is_none_or(|service| *service == key.service.service)
        && wanted.replica.is_none_or(|replica| replica == key.replica)
}
