use std::process::ExitCode;
use std::time::Duration;

use dataplane::api::types::{Invite, Invited, NodeRow, NodeState};

use crate::cell::{Cell, Tone};
use crate::cli::{Global, NodesArgs, NodesCommand};
use crate::client::{Client, encode};
use crate::deployment::age;
use crate::error::CtlError;
use crate::output::Output;

const HEADER: [&str; 11] = [
    "NODE",
    "STATE",
    "ADDRESS",
    "PREFIXES",
    "REPLICAS",
    "TUNNEL",
    "HANDSHAKE",
    "RECEIVED",
    "SENT",
    "FORGED",
    "VERSION",
];

/// `nodes`.
pub(crate) async fn run(global: &Global, args: &NodesArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    let client = Client::new(global);
    if let Some(NodesCommand::Invite { within }) = &args.command {
        return invite(&client, *within, output).await;
    }
    let rows: Vec<NodeRow> = match &args.command {
        None | Some(NodesCommand::List | NodesCommand::Invite { .. }) => client.get("/v1/nodes").await?,
        Some(NodesCommand::Cordon { node }) => vec![client.post(&path(node, "/cordon"), &()).await?],
        Some(NodesCommand::Uncordon { node }) => vec![client.post(&path(node, "/uncordon"), &()).await?],
        Some(NodesCommand::Drain { node }) => vec![client.post(&path(node, "/drain"), &()).await?],
        Some(NodesCommand::Remove { node }) => vec![client.delete(&path(node, "")).await?],
    };
    output.list(&HEADER, &rows, row)?;
    Ok(ExitCode::SUCCESS)
}

async fn invite(client: &Client, within: Duration, output: &mut Output) -> Result<ExitCode, CtlError> {
    let invited: Invited = client.post("/v1/invitations", &Invite { within: within.as_secs() }).await?;
    if output.is_json() {
        output.json(&invited)?;
    } else {
        output.note(&format!("On the new machine, as root, within {} (it asks {}):", age(within), invited.address));
        output.line(&format!("skepd join {}", invited.token))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn path(node: &str, action: &str) -> String {
    format!("/v1/nodes/{}{action}", encode(node))
}

fn row(row: &NodeRow) -> Vec<Cell> {
    let or_none = |text: Option<String>| text.map_or_else(|| Cell::new("-").tone(Tone::Dim), Cell::new);
    let tone = match row.state {
        NodeState::Ready => Tone::Good,
        NodeState::Cordoned => Tone::Warn,
        NodeState::Away => Tone::Bad,
    };
    vec![
        Cell::new(if row.this { format!("{} *", row.node) } else { row.node.clone() }),
        Cell::new(row.state).tone(tone),
        or_none(row.address.clone()),
        Cell::new(row.prefixes.join(", ")),
        Cell::new(row.replicas),
        or_none(row.tunnel.clone()),
        or_none(row.handshake.map(|seconds| age(Duration::from_secs(seconds)))),
        or_none(row.received.map(octets)),
        or_none(row.sent.map(octets)),
        or_none(row.forged.map(|packets| packets.to_string())),
        or_none(row.version.clone()),
    ]
}

/// `1.4 MiB`.
fn octets(octets: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (octets.max(1).ilog2() / 10).min(4);
    match unit {
        0 => format!("{octets} B"),
        _ => format!("{:.1} {}", octets as f64 / f64::from(1_u32 << 10).powi(unit as i32), UNITS[unit as usize]),
    }
}

#[cfg(test)]
mod tests {
    use super::octets;

    #[test]
    fn octets_have_a_unit_that_fits() {
        assert_eq!([0, 1023, 1024, 1_500_000, 5 << 40].map(octets), ["0 B", "1023 B", "1.0 KiB", "1.4 MiB", "5.0 TiB"]);
    }
}
