//! Letting machines in.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;

use super::error::Refusal;
use super::routes::Answer;
use super::types::{ErrorBody, Invite, Invited};
use super::{Api, Peer};
use crate::cluster::ClusterError;
use crate::model::Admission;
use crate::store::schema::{self, Subject};

/// A week: who has not joined by then was not meant.
const LONGEST: u64 = 7 * 24 * 3600;

/// Invites a machine to become a node. For root alone: whoever has the token gets the key to all secrets.
#[utoipa::path(post, path = "/v1/invitations", request_body = Invite,
    responses((status = 200, body = Invited), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn post(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Json<Invite>, JsonRejection>,
) -> Answer<Invited> {
    let Json(Invite { within }) = body?;
    if peer.0 != Some(0) {
        let error = "whoever joins is given the key to all secrets, and this is not root";
        return Err(Refusal::new(StatusCode::FORBIDDEN, error, "sudo skepctl nodes invite"));
    }
    if within == 0 || within > LONGEST {
        let error = format!("an invitation of {within} s");
        return Err(Refusal::bad(error, "give from a second to a week"));
    }
    let Some(door) = &api.door else { return Err(no_door(&api).await?) };
    let (token, invitation) = door.invite(Duration::from_secs(within)).await?;
    Ok(Json(Invited { token: token.expose().to_string(), address: token.address(), until: invitation.until / 1000 }))
}

/// Whom to ask instead.
async fn no_door(api: &Api) -> Result<Refusal, Refusal> {
    let mut who = None;
    for entry in api.store.range(schema::admissions().as_str()).await?.entries {
        let Some(Subject::Admission(node)) = Subject::of(&entry.key) else { continue };
        who = schema::decode::<Admission>(&entry)?.value.admits.then_some(node).or(who);
    }
    let (error, remedy) = match (who, &api.config.etcd) {
        (Some(node), _) => {
            (format!("node {} lets nobody in", api.node.name), format!("ask on node {node}, the first one"))
        }
        (None, None) => {
            let error = format!("node {} is of no cluster", api.node.name);
            (error, "`sudo skepd cluster init` makes it the first node of one".to_owned())
        }
        (None, Some(_)) => (
            "this cluster's etcd was set up by hand".to_owned(),
            "give the new node its --etcd options and a copy of cluster.key by hand as well".to_owned(),
        ),
    };
    Ok(Refusal::new(StatusCode::CONFLICT, error, remedy))
}

impl From<ClusterError> for Refusal {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::Store(error) => error.into(),
            error => Self::internal(&error),
        }
    }
}
