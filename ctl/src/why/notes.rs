//! What skepd knows and the maps do not: replicas that do not run, or are not well. A help: where skepd is not there,
//! nothing is said.

use dataplane::api::types::ReplicaRow;
use dataplane::model::ReplicaState;

use super::source::split_replica;
use crate::client::Client;
use crate::directory::ServiceEntry;
use crate::error::CtlError;

/// Replicas as skepd sees them; none where it is not there.
pub(super) struct Replicas(Vec<ReplicaRow>);

impl Replicas {
    pub(super) async fn read(client: &Client) -> Self {
        Self(client.get("/v1/replicas").await.unwrap_or_default())
    }

    /// How those of a service are that do not serve.
    pub(super) fn ill(&self, service: &ServiceEntry) -> Vec<String> {
        let of_it = |row: &&ReplicaRow| {
            (&row.project, &row.environment, &row.service) == (&service.project, &service.environment, &service.service)
        };
        self.0.iter().filter(of_it).filter(|row| row.state != ReplicaState::Running).map(words).collect()
    }

    /// Why there is no such source on this node, if there is a replica that is called so.
    pub(super) fn absent(&self, what: &str) -> Option<CtlError> {
        let (name, number) = split_replica(what);
        let service = name.rsplit('/').next()?;
        let is_meant = |row: &&ReplicaRow| row.service == service && number.is_none_or(|number| number == row.replica);
        let states: Vec<String> = self.0.iter().filter(is_meant).map(words).collect();
        (!states.is_empty()).then(|| CtlError::NotHere { what: what.to_owned(), states })
    }
}

/// `shop/production/db.1 is failed on node-1: its container ended with status 1`.
fn words(row: &ReplicaRow) -> String {
    let ReplicaRow { project, environment, service, replica, state, node, message, .. } = row;
    let node = if node.is_empty() { String::new() } else { format!(" on {node}") };
    let message = message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
    format!("{project}/{environment}/{service}.{replica} is {state}{node}{message}")
}
