//! The nodes: how they stand, and what people want of them.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::Api;
use super::error::Refusal;
use super::intent::Dry;
use super::routes::Answer;
use super::types::{ErrorBody, NodeRow, NodeState};
use crate::agent::in_one_line;
use crate::controller::State as Assignments;
use crate::model::{NodeIntent, NodeRecord, ServiceKey};
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
    api.want(&node, NodeIntent { cordoned: true }).await
}

/// Has replicas placed on a node again.
#[utoipa::path(post, path = "/v1/nodes/{node}/uncordon",
    responses((status = 200, body = NodeRow), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn uncordon(State(api): State<Api>, Path(node): Path<String>) -> Answer<NodeRow> {
    api.want(&node, NodeIntent::default()).await
}

/// Cordons a node, and deploys anew, elsewhere, each service that has a replica there and no volume: as any deployment, it
/// loses no request.
#[utoipa::path(post, path = "/v1/nodes/{node}/drain",
    responses((status = 200, body = NodeRow), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn drain(State(api): State<Api>, Path(node): Path<String>) -> Answer<NodeRow> {
    let row = api.want(&node, NodeIntent { cordoned: true }).await?;
    let state = Assignments::load(api.store.as_ref()).await?;
    let there = state.replicas.values().map(|replica| &replica.value).filter(|replica| replica.node == node);
    let moving = there.filter(|replica| !replica.ending && !replica.is_run() && replica.spec.volumes.is_empty());
    let services: BTreeSet<ServiceKey> = moving.map(|replica| replica.key.service.clone()).collect();
    for service in services {
        let again = api.change_service(&service, Dry::default(), |spec, _| {
            spec.attempt += 1;
            Ok(())
        });
        drop(again.await?);
    }
    Ok(row)
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
    let mut txn = Txn::default().when(&schema::node(&node), Some(record.revision)).delete(&schema::node(&node));
    txn = txn.when(&schema::presence(&node), None);
    // What it comes to etcd with is worth nothing from then on.
    txn = txn.delete(&schema::admission(&node));
    txn = txn.delete(&schema::tunnel(&node)).delete(&schema::node_intent(&node)).delete(&schema::ack(&node));
    txn = txn.delete(&schema::pulled(&node)).delete(&schema::addresses(&node));
    if api.store.txn(txn).await? == Outcome::Conflict {
        let error = format!("node {node} changed at the same moment");
        return Err(Refusal::new(StatusCode::CONFLICT, error, "try again"));
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
    async fn want(&self, node: &str, intent: NodeIntent) -> Answer<NodeRow> {
        let state = Assignments::load(self.store.as_ref()).await?;
        let record = state.nodes.get(node).ok_or_else(|| unknown(node))?;
        let txn = Txn::default().when(&schema::node(node), Some(record.revision));
        match self.store.txn(txn.put(&schema::node_intent(node), &intent)?).await? {
            Outcome::Committed(_) => {
                let state = Assignments::load(self.store.as_ref()).await?;
                Ok(Json(row(self, &state, &record.value, None)))
            }
            Outcome::Conflict => {
                let error = format!("node {node} changed at the same moment");
                Err(Refusal::new(StatusCode::CONFLICT, error, "try again"))
            }
        }
    }
}

fn unknown(node: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no node {node}"), "see `skepctl nodes` for those there are")
}

fn row(api: &Api, state: &Assignments, node: &NodeRecord, seen: Option<&Seen>) -> NodeRow {
    let presence = state.present.get(&node.name);
    let tunnel = state.tunnels.get(&node.name);
    let key = tunnel.and_then(|tunnel| tunnel.key.parse::<PublicKey>().ok());
    let peer = seen.and_then(|seen| Some((seen, seen.peers.get(&key?)?)));
    let assigned = state.replicas.values().filter(|replica| replica.value.node == node.name).count();
    NodeRow {
        node: node.name.clone(),
        this: node.name == api.node.name,
        id: node.id,
        state: match presence {
            None => NodeState::Away,
            Some(_) if state.is_cordoned(&node.name) => NodeState::Cordoned,
            Some(_) => NodeState::Ready,
        },
        address: tunnel.map(|tunnel| tunnel.endpoint.to_string()),
        prefixes: node.prefixes().map(|prefix| prefix.to_string()).collect(),
        replicas: u32::try_from(assigned).unwrap_or(u32::MAX),
        version: presence.map(|presence| presence.version.clone()),
        tunnel: peer.map(|(seen, _)| match seen.kind {
            Kind::Kernel => "kernel".to_owned(),
            Kind::Userspace => "userspace".to_owned(),
        }),
        handshake: peer
            .and_then(|(seen, peer)| Some(seen.at.duration_since(peer.last_handshake?).unwrap_or_default().as_secs())),
        received: peer.map(|(_, peer)| peer.rx),
        sent: peer.map(|(_, peer)| peer.tx),
        forged: peer.and_then(|(_, peer)| peer.foreign),
    }
}
