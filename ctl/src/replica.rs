use std::process::ExitCode;

use dataplane::api::types::ReplicaRow;
use dataplane::model::ReplicaState;

use crate::cell::{Cell, Tone};
use crate::cli::Global;
use crate::client::Client;
use crate::error::CtlError;
use crate::output::Output;
use crate::scope::Scope;

const HEADER: [&str; 11] = [
    "PROJECT",
    "ENVIRONMENT",
    "SERVICE",
    "REPLICA",
    "DEPLOYMENT",
    "STATE",
    "NODE",
    "ADDRESS",
    "VIP",
    "CONTAINER",
    "MESSAGE",
];
/// As many digits of a container id as Docker shows.
const ID_DIGITS: usize = 12;

/// `ps`.
pub(crate) async fn list(global: &Global, output: &mut Output) -> Result<ExitCode, CtlError> {
    let path = Scope::new(global)?.query("/v1/replicas");
    let rows: Vec<ReplicaRow> = Client::new(global).get(&path).await?;
    output.list(&HEADER, &rows, row)?;
    Ok(ExitCode::SUCCESS)
}

fn row(replica: &ReplicaRow) -> Vec<Cell> {
    let container = replica.container.as_deref().map(|id| id.get(..ID_DIGITS).unwrap_or(id));
    vec![
        Cell::new(&replica.project),
        Cell::new(&replica.environment),
        Cell::new(&replica.service),
        Cell::new(replica.replica),
        deployment(replica.deployment),
        Cell::new(replica.state).tone(tone(replica.state)),
        Cell::new(&replica.node),
        Cell::new(&replica.address),
        Cell::new(&replica.vip),
        Cell::or_dash(container),
        Cell::new(replica.message.as_deref().unwrap_or_default()),
    ]
}

/// Versions are counted from 1.
fn deployment(number: u32) -> Cell {
    if number == 0 { Cell::new("one-off") } else { Cell::new(number) }
}

/// How a state looks.
pub(crate) fn tone(state: ReplicaState) -> Tone {
    match state {
        ReplicaState::Running => Tone::Good,
        ReplicaState::Failed | ReplicaState::Unhealthy => Tone::Bad,
        ReplicaState::Exited | ReplicaState::Stopping | ReplicaState::Stopped | ReplicaState::Scheduled => Tone::Dim,
        _ => Tone::Warn,
    }
}
