mod rotate;

use std::process::ExitCode;
use std::time::Duration;

use dataplane::api::types::{Invite, Invited, Labels, NodeRow, NodeState, Roles};
use dataplane::model::placement::{cpus, octets};

use crate::cell::{Cell, Tone};
use crate::cli::{Global, LabelChange, NodesArgs, NodesCommand};
use crate::client::{Client, encode};
use crate::deployment::age;
use crate::error::CtlError;
use crate::output::Output;

const HEADER: [&str; 16] = [
    "NODE",
    "STATE",
    "ROLES",
    "LABELS",
    "ADDRESS",
    "PREFIXES",
    "REPLICAS",
    "RESERVED",
    "TUNNEL",
    "HANDSHAKE",
    "LATENCY",
    "PATH MTU",
    "RECEIVED",
    "SENT",
    "FORGED",
    "VERSION",
];

/// `nodes`.
pub(crate) async fn run(global: &Global, args: &NodesArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    let client = Client::new(global);
    let rows: Vec<NodeRow> = match &args.command {
        None | Some(NodesCommand::List) => client.get("/v1/nodes").await?,
        Some(NodesCommand::Invite { within }) => return invite(&client, *within, output).await,
        Some(NodesCommand::Cordon { node }) => vec![client.post(&path(node, "/cordon"), &()).await?],
        Some(NodesCommand::Uncordon { node }) => vec![client.post(&path(node, "/uncordon"), &()).await?],
        Some(NodesCommand::Label { node, changes }) => {
            vec![client.post(&path(node, "/labels"), &labels(changes)).await?]
        }
        Some(NodesCommand::Roles { node, roles }) => {
            let roles = Roles { roles: roles.iter().copied().collect() };
            vec![client.post(&path(node, "/roles"), &roles).await?]
        }
        Some(NodesCommand::Drain { node }) => vec![client.post(&path(node, "/drain"), &()).await?],
        Some(NodesCommand::RotateKey(args)) => rotate::rotate(&client, args, output).await?,
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

fn labels(changes: &[LabelChange]) -> Labels {
    let mut labels = Labels::default();
    for change in changes {
        match change {
            LabelChange::Set(name, value) => drop(labels.set.insert(name.clone(), value.clone())),
            LabelChange::Remove(name) => drop(labels.remove.insert(name.clone())),
        }
    }
    labels
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
        or_none(words(row.roles.iter())),
        or_none(words(row.labels.iter().map(|(name, value)| format!("{name}={value}")))),
        or_none(row.address.clone()),
        Cell::new(row.prefixes.join(", ")),
        Cell::new(row.replicas),
        or_none(reserved(row)),
        or_none(row.tunnel.clone()),
        or_none(row.handshake.map(|seconds| age(Duration::from_secs(seconds)))),
        or_none(row.latency.map(milliseconds)),
        or_none(row.path_mtu.map(|octets| octets.to_string())),
        or_none(row.received.map(octets)),
        or_none(row.sent.map(octets)),
        or_none(row.forged.map(|packets| packets.to_string())),
        or_none(row.version.clone()),
    ]
}

/// `control, compute`; nothing of none.
fn words(words: impl Iterator<Item = impl ToString>) -> Option<String> {
    let words: Vec<String> = words.map(|word| word.to_string()).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// `1 GiB of 8 GiB, 0.5 of 4 CPUs`; nothing of a node that does not tell what it has.
fn reserved(row: &NodeRow) -> Option<String> {
    let (reserved, capacity) = (row.reserved, row.capacity?);
    let memory = format!("{} of {}", octets(reserved.memory), octets(capacity.memory));
    Some(format!("{memory}, {} of {} CPUs", cpus(reserved.nano_cpus), cpus(capacity.nano_cpus)))
}

/// `0.24 ms`, `112 ms`.
fn milliseconds(time: f64) -> String {
    if time < 10.0 { format!("{time:.2} ms") } else { format!("{time:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::milliseconds;

    #[test]
    fn times_are_as_exact_as_they_are_short() {
        assert_eq!([0.238, 9.994, 111.7].map(milliseconds), ["0.24 ms", "9.99 ms", "112 ms"]);
    }
}
