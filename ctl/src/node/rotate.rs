//! Other WireGuard keys, one node after the other.

use std::time::Duration;

use dataplane::api::types::{NodeRow, NodeState};

use super::path;
use crate::cli::RotateKeyArgs;
use crate::client::Client;
use crate::error::CtlError;
use crate::output::Output;

/// Nodes are asked that often how far they are: of each other they hear within seconds.
const INTERVAL: Duration = Duration::from_millis(300);

/// Has the node, or every one that is there, use another key; the rows of them afterwards.
pub(super) async fn rotate(
    client: &Client,
    args: &RotateKeyArgs,
    output: &mut Output,
) -> Result<Vec<NodeRow>, CtlError> {
    let nodes = match &args.node {
        Some(node) => vec![node.clone()],
        None => there(client, output).await?,
    };
    let mut rows = Vec::new();
    for node in nodes {
        let asked: NodeRow = client.post(&path(&node, "/rotate-key"), &()).await?;
        if args.no_wait {
            output.note(&format!("{node}: accepted; see `skepctl nodes -o json` for `rotating`"));
            rows.push(asked);
            continue;
        }
        let followed = tokio::time::timeout(args.timeout, follow(client, &node, output)).await;
        rows.push(followed.unwrap_or(Err(CtlError::KeyTimeout { node, seconds: args.timeout.as_secs() }))?);
    }
    Ok(rows)
}

/// The nodes that are there, and a word about the others.
async fn there(client: &Client, output: &mut Output) -> Result<Vec<String>, CtlError> {
    let rows: Vec<NodeRow> = client.get("/v1/nodes").await?;
    let (away, there): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.state == NodeState::Away);
    for row in away {
        output.note(&format!("{}: away; it keeps its key", row.node));
    }
    Ok(there.into_iter().map(|row| row.node).collect())
}

/// Tells whom the node waits for, until it uses its next key.
async fn follow(client: &Client, node: &str, output: &mut Output) -> Result<NodeRow, CtlError> {
    let mut told = None;
    loop {
        let rows: Vec<NodeRow> = client.get("/v1/nodes").await?;
        let states: Vec<_> = rows.iter().map(|row| (row.node.clone(), row.state)).collect();
        let row = rows.into_iter().find(|row| row.node == node);
        let unknown = || CtlError::Unknown { what: node.to_owned(), expected: "node", meant: None, list: "nodes" };
        let row = row.ok_or_else(unknown)?;
        let Some(waits) = &row.rotating else {
            output.note(&format!("{node}: has another key, {}", row.key.as_deref().unwrap_or_default()));
            return Ok(row);
        };
        let line = line(waits, &states);
        if told.as_ref() != Some(&line) {
            output.note(&format!("{node}: {line}"));
            told = Some(line);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn line(waits: &[String], states: &[(String, NodeState)]) -> String {
    let is_away = |node: &String| states.iter().any(|(name, state)| name == node && *state == NodeState::Away);
    let named = waits.iter().map(|node| if is_away(node) { format!("{node} (away)") } else { node.clone() });
    match waits {
        [] => "on its way".to_owned(),
        _ => format!("to be known to {}", named.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_waited_for_is_named() {
        let states = [("a".to_owned(), NodeState::Ready), ("b".to_owned(), NodeState::Away)];
        assert_eq!(line(&[], &states), "on its way");
        assert_eq!(line(&["a".to_owned(), "b".to_owned()], &states), "to be known to a, b (away)");
    }
}
