//! The nodes: how they stand, and what people want of them.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::Api;
use super::error::Refusal;
use super::intent::Dry;
use super::routes::Answer;
use super::types::{ErrorBody, Labels, NodeRow, NodeState, Roles};
use crate::agent::in_one_line;
use crate::controller::State as Assignments;
use crate::model::placement::check_labels;
use crate::model::{NodeIntent, NodeRecord, Reserved, Role, ServiceKey};
use crate::store::{Outcome, Txn, schema};
use crate::wireguard::{Kind, PublicKey, Seen};

/// The nodes, as this one sees them.
#[utoipa::path(get, path = "/v1/nodes", responses((status = 200, body = Vec<NodeRow>)))]
pub(super) async fn list(State(api): State<Api>) -> Answer<Vec<NodeRow>> {
    let state = Assignments::load(api.store.as_ref()).await?;
    let seen = api.observer.tunnel.see().await.unwrap_or_else(|error| {
        tracing::warn!(error = in_one_line(&error), "Cannot look at the tunnel.");
        None
    });
    let rows = state.nodes.values().map(|node| row(&api, &state, &node.value, seen.as_ref()));
    Ok(Json(rows.collect()))
}

/// Has no new replica placed on a node.
#[utoipa::path(post, path = "/v1/nodes/{node}/cordon",
    responses((status = 200, body = NodeRow), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn cordon(State(api): State<Api>, Path(node): Path<String>) -> Answer<NodeRow> {
    api.want(&node, |intent| intent.cordoned = true).await
}

/// Has replicas placed on a node again.
#[utoipa::path(post, path = "/v1/nodes/{node}/uncordon",
    responses((status = 200, body = NodeRow), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn uncordon(State(api): State<Api>, Path(node): Path<String>) -> Answer<NodeRow> {
    api.want(&node, |intent| intent.cordoned = false).await
}

/// Cordons a node, and deploys anew, elsewhere, each service that has a replica there and no volume: as any deployment, it
/// loses no request.
#[utoipa::path(post, path = "/v1/nodes/{node}/drain",
    responses((status = 200, body = NodeRow), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn drain(State(api): State<Api>, Path(node): Path<String>) -> Answer<NodeRow> {
    let row = api.want(&node, |intent| intent.cordoned = true).await?;
    let state = Assignments::load(api.store.as_ref()).await?;
    let there = state.replicas.values().map(|replica| &replica.value).filter(|replica| replica.node == node);
    let moving = there.filter(|replica| !replica.ending && !replica.is_passing() && replica.spec.volumes.is_empty());
    let services: BTreeSet<ServiceKey> = moving.map(|replica| replica.key.service.clone()).collect();
    let mut refused = None;
    for service in services {
        let again = api.change_service(&service, Dry::default(), |spec, _| {
            spec.attempt += 1;
            Ok(())
        });
        // One that no other node takes keeps nothing else there.
        if let Err(refusal) = again.await {
            refused.get_or_insert(refusal);
        }
    }
    refused.map_or(Ok(row), Err)
}

/// Gives a node labels, and takes others away. It moves nothing: labels are asked for when a replica is placed.
#[utoipa::path(post, path = "/v1/nodes/{node}/labels", request_body = Labels,
    responses((status = 200, body = NodeRow), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn label(
    State(api): State<Api>,
    Path(node): Path<String>,
    body: Result<Json<Labels>, JsonRejection>,
) -> Answer<NodeRow> {
    let Json(Labels { set, remove }) = body?;
    check_labels(&set).map_err(|error| Refusal::bad(error.what, error.remedy))?;
    if let Some(both) = remove.iter().find(|name| set.contains_key(*name)) {
        return Err(Refusal::bad(format!("the label {both} is to be given and taken away"), "say one of them"));
    }
    api.want(&node, |intent| {
        intent.labels.retain(|name, _| !remove.contains(name));
        intent.labels.extend(set.clone());
    })
    .await
}

/// Says what a node is for. It moves nothing: without `compute`, what runs there goes on until it is drained.
#[utoipa::path(post, path = "/v1/nodes/{node}/roles", request_body = Roles,
    responses((status = 200, body = NodeRow), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn roles(
    State(api): State<Api>,
    Path(node): Path<String>,
    body: Result<Json<Roles>, JsonRejection>,
) -> Answer<NodeRow> {
    let Json(Roles { roles }) = body?;
    api.want(&node, |intent| intent.roles.clone_from(&roles)).await
}

/// Has a node use another WireGuard key. The others get to know it before it is used, so no connection is lost; the node's
/// row tells how far that is. One that is under way is joined.
#[utoipa::path(post, path = "/v1/nodes/{node}/rotate-key",
    responses((status = 200, body = NodeRow), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn rotate_key(State(api): State<Api>, Path(node): Path<String>) -> Answer<NodeRow> {
    let state = Assignments::load(api.store.as_ref()).await?;
    let record = state.nodes.get(&node).ok_or_else(|| unknown(&node))?;
    let Some(tunnel) = state.tunnels.get(&node) else {
        let remedy = format!("start skepd on {node} without --tunnel off");
        return Err(Refusal::new(StatusCode::CONFLICT, format!("node {node} has no tunnel, so it has no key"), remedy));
    };
    if !state.present.contains_key(&node) {
        let remedy = "try again when `skepctl nodes` says that it is there: it makes its key itself";
        return Err(Refusal::new(StatusCode::CONFLICT, format!("node {node} is away"), remedy));
    }
    if rotating(&state, &node).is_some() {
        return Ok(Json(row(&api, &state, &record.value, None)));
    }
    api.want(&node, |intent| intent.rotate = tunnel.value.rotation + 1).await
}

/// Forgets a node that will not come back. Its replicas without volumes are placed elsewhere.
#[utoipa::path(delete, path = "/v1/nodes/{node}",
    responses((status = 200, body = NodeRow), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn remove(State(api): State<Api>, Path(node): Path<String>) -> Answer<NodeRow> {
    let state = Assignments::load(api.store.as_ref()).await?;
    let record = state.nodes.get(&node).ok_or_else(|| unknown(&node))?;
    if state.present.contains_key(&node) {
        let error = format!("node {node} is there");
        let remedy = format!("`skepctl nodes drain {node}`, then end its skepd with `skepd uninstall`, and wait 10 s");
        return Err(Refusal::new(StatusCode::CONFLICT, error, remedy));
    }
    let volumes: Vec<_> = state.volumes.iter().filter(|(_, volume)| volume.value.node == node).collect();
    if let Some((volume, _)) = volumes.first() {
        let error =
            format!("node {node} has {} volume(s), such as {} of {}", volumes.len(), volume.volume, volume.environment);
        let remedy = "bring it back and save them, or take their environments away with `skepctl down --volumes`";
        return Err(Refusal::new(StatusCode::CONFLICT, error, remedy));
    }
    let txn = Txn::default().when(&schema::node(&node), Some(record.revision)).delete(&schema::node(&node));
    let has_control = state.node_intent(&node).roles.contains(&Role::Control);
    let txn = if has_control { keep_control(&state, &node, txn)? } else { txn };
    let mut txn = txn.when(&schema::presence(&node), None);
    // What it comes to etcd with is worth nothing from then on.
    txn = txn.delete(&schema::admission(&node));
    txn = txn.delete(&schema::tunnel(&node)).delete(&schema::node_intent(&node)).delete(&schema::ack(&node));
    txn = txn.delete(&schema::pulled(&node)).delete(&schema::addresses(&node));
    if api.store.txn(txn).await? == Outcome::Conflict {
        return Err(changed(&node));
    }
    // What it told of its replicas goes a piece at a time: there may be more of it than one transaction takes.
    let told: Vec<String> =
        api.store.range(schema::statuses_of(&node).as_str()).await?.entries.into_iter().map(|e| e.key).collect();
    for part in told.chunks(100) {
        let then = part.iter().cloned().map(crate::store::Write::Delete).collect();
        api.store.txn(Txn { compare: Vec::new(), then }).await?;
    }
    Ok(Json(row(&api, &state, &record.value, None)))
}

impl Api {
    /// Changes what people want of a node, and nothing else of it.
    async fn want(&self, node: &str, change: impl FnOnce(&mut NodeIntent)) -> Answer<NodeRow> {
        let state = Assignments::load(self.store.as_ref()).await?;
        let record = state.nodes.get(node).ok_or_else(|| unknown(node))?;
        let (key, before) = (schema::node_intent(node), state.node_intents.get(node));
        let mut intent = state.node_intent(node).into_owned();
        let had_control = intent.roles.contains(&Role::Control);
        change(&mut intent);
        let mut txn = Txn::default().when(&schema::node(node), Some(record.revision));
        txn = txn.when(&key, before.map(|before| before.revision)).put(&key, &intent)?;
        if had_control && !intent.roles.contains(&Role::Control) {
            txn = keep_control(&state, node, txn)?;
        }
        match self.store.txn(txn).await? {
            Outcome::Committed(_) => {
                let state = Assignments::load(self.store.as_ref()).await?;
                Ok(Json(row(self, &state, &record.value, None)))
            }
            Outcome::Conflict => Err(changed(node)),
        }
    }
}

/// Adds that another node, which is there, may decide where everything goes: without one, nothing changes any more.
fn keep_control(state: &Assignments, node: &str, txn: Txn) -> Result<Txn, Refusal> {
    let others = state.nodes.iter().filter(|(name, _)| *name != node && state.present.contains_key(*name));
    let has_control = |name: &str| state.node_intent(name).roles.contains(&Role::Control);
    let mut others = others.filter(|(name, _)| has_control(name));
    let Some((name, record)) = others.next() else {
        let error =
            format!("no other node that is there has the role control, and without {node} nobody would place anything");
        let remedy = "give it to one with `skepctl nodes roles NODE control,...` first";
        return Err(Refusal::new(StatusCode::CONFLICT, error, remedy));
    };
    let intent = state.node_intents.get(name).map(|intent| intent.revision);
    Ok(txn.when(&schema::node(name), Some(record.revision)).when(&schema::node_intent(name), intent))
}

fn changed(node: &str) -> Refusal {
    let error = format!("node {node} changed at the same moment");
    Refusal::new(StatusCode::CONFLICT, error, "try again")
}

fn unknown(node: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no node {node}"), "see `skepctl nodes` for those there are")
}

/// While a node's key is being changed: who does not know the next one yet.
fn rotating(state: &Assignments, node: &str) -> Option<Vec<String>> {
    let tunnel = state.tunnels.get(node)?;
    let wanted = state.node_intents.get(node).is_some_and(|intent| intent.value.rotate > tunnel.value.rotation);
    if tunnel.value.next.is_none() {
        return wanted.then(Vec::new);
    }
    let knows = |other: &&String| state.acks.get(*other).is_some_and(|ack| ack.tunnels >= tunnel.revision);
    let others = state.nodes.keys().filter(|other| *other != node && !knows(other));
    Some(others.cloned().collect())
}

fn row(api: &Api, state: &Assignments, node: &NodeRecord, seen: Option<&Seen>) -> NodeRow {
    let presence = state.present.get(&node.name);
    let tunnel = state.tunnels.get(&node.name).map(|tunnel| &tunnel.value);
    let path = api.observer.path(&node.name);
    let key = tunnel.and_then(|tunnel| tunnel.key.parse::<PublicKey>().ok());
    let peer = seen.and_then(|seen| Some((seen, seen.peers.get(&key?)?)));
    let assigned = || state.replicas.values().map(|replica| &replica.value).filter(|replica| replica.node == node.name);
    let intent = state.node_intent(&node.name);
    NodeRow {
        node: node.name.clone(),
        this: node.name == api.node.name,
        id: node.id,
        state: match presence {
            None => NodeState::Away,
            Some(_) if intent.cordoned => NodeState::Cordoned,
            Some(_) => NodeState::Ready,
        },
        address: tunnel.map(|tunnel| tunnel.endpoint.to_string()),
        prefixes: node.prefixes().map(|prefix| prefix.to_string()).collect(),
        roles: intent.roles.clone(),
        labels: intent.labels.clone(),
        replicas: u32::try_from(assigned().count()).unwrap_or(u32::MAX),
        reserved: assigned().fold(Reserved::default(), |sum, replica| sum.with(replica.spec.reserved)),
        capacity: presence.and_then(|presence| presence.capacity),
        version: presence.map(|presence| presence.version.clone()),
        tunnel: peer.map(|(seen, _)| match seen.kind {
            Kind::Kernel => "kernel".to_owned(),
            Kind::Userspace => "userspace".to_owned(),
        }),
        handshake: peer
            .and_then(|(seen, peer)| Some(seen.at.duration_since(peer.last_handshake?).unwrap_or_default().as_secs())),
        received: peer.map(|(_, peer)| peer.rx),
        sent: peer.map(|(_, peer)| peer.tx),
        latency: path.and_then(|path| Some(path.latency?.as_secs_f64() * 1e3)),
        path_mtu: path.filter(|path| path.mtu < path.uplinks).map(|path| path.mtu),
        key: tunnel.map(|tunnel| tunnel.key.clone()),
        rotating: rotating(state, &node.name),
        forged: peer.and_then(|(_, peer)| peer.foreign),
    }
}
