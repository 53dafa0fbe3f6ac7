//! What the maps do not know: replicas that do not run, or are not well, as skepd tells; and whether the forwarder is
//! there. A help: where skepd is not, nothing is said of replicas.

use std::net::IpAddr;
use std::time::Duration;

use dataplane::api::types::ReplicaRow;
use dataplane::model::ReplicaState;
use dataplane_ebpf::abi::Addr;
use tokio::time::timeout;

use super::source::split_replica;
use crate::client::Client;
use crate::directory::ServiceEntry;
use crate::error::CtlError;
use crate::scope::Scope;

/// The maps answer without skepd, and do not wait for one that hangs.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why names of the outside do not resolve, if the forwarder does not answer.
pub(super) async fn forwarder(dns: Addr) -> Option<String> {
    let IpAddr::V4(address) = dns.to_ip() else { return None };
    let why = dataplane::forwarder::answers(address, PATIENCE).await.err()?;
    let remedy = "see `systemctl status skepd-dns`, or the log of skepd, which starts it";
    Some(format!(
        "is not found out: the forwarder for names of the outside does not answer at {address} ({why}): {remedy}"
    ))
}

/// How the replicas of a service are that do not serve.
pub(super) async fn ill(client: &Client, service: &ServiceEntry) -> Vec<String> {
    let rows = rows(client, &Scope::of(&service.project, &service.environment)).await;
    let ill = rows.iter().filter(|row| row.service == service.service && row.state != ReplicaState::Running);
    ill.map(words).collect()
}

/// Why there is no such source on this node, if there is a replica that is called so.
pub(super) async fn absent(client: &Client, scope: &Scope, what: &str) -> Option<CtlError> {
    let (name, number) = split_replica(what);
    let service = name.rsplit('/').next()?;
    let is_meant = |row: &&ReplicaRow| row.service == service && number.is_none_or(|number| number == row.replica);
    let states: Vec<String> = rows(client, scope).await.iter().filter(is_meant).map(words).collect();
    (!states.is_empty()).then(|| CtlError::NotHere { what: what.to_owned(), states })
}

/// Replicas as skepd sees them; none where it is not there.
async fn rows(client: &Client, scope: &Scope) -> Vec<ReplicaRow> {
    let asked = timeout(PATIENCE, client.get(&scope.query("/v1/replicas"))).await;
    asked.ok().and_then(Result::ok).unwrap_or_default()
}

/// `shop/production/db.1 is failed on node-1: its container ended with status 1`.
fn words(row: &ReplicaRow) -> String {
    let ReplicaRow { project, environment, service, replica, state, node, message, .. } = row;
    let node = if node.is_empty() { String::new() } else { format!(" on {node}") };
    let message = message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
    format!("{project}/{environment}/{service}.{replica} is {state}{node}{message}")
}
