//! After the switch: a replica that falls ill gets no new connection, and gets them again when it is well.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{Node, wait_for};

use crate::requests::Requests;
use crate::stack::{PATIENCE, Stack, web, with};

/// Three replicas that the node asks five times a second; some are well for four seconds, then not for four, and so on.
fn flapping(words: &[&str]) -> Value {
    let command = [&["web"], words, &["flaps=4"]].concat();
    let health = json!({ "path": "/health", "interval": "200ms", "retries": 2 });
    with(web(1), json!({ "command": command, "x-skep": { "health": health } }))
}

/// Addresses that clients are sent to, straight from the maps.
fn backends(stack: &Stack) -> Result<BTreeSet<String>> {
    let why = ["-p", "shop", "-e", "production", "why", "client", "web:8080"];
    let report = stack.node.skepctl_json(&why)?;
    let rows = report["backends"].as_array().with_context(|| format!("no backends: {report}"))?;
    Ok(rows.iter().filter_map(|row| Some(row["address"].as_str()?.to_owned())).collect())
}

/// State and address of each replica of `web`, in order.
fn replicas(stack: &Stack) -> Result<Vec<(String, String)>> {
    let mut all = stack.node.replicas()?;
    all.retain(|replica| replica.service == "web");
    all.sort_by_key(|replica| replica.replica);
    Ok(all.into_iter().map(|replica| (replica.state, replica.address.unwrap_or_default())).collect())
}

#[test]
fn an_ill_replica_gets_no_new_connection_until_it_is_well() -> Result<()> {
    let stack = Stack::start(Node::builder(), &flapping(&["second"]))?;
    let requests = Requests::fresh(&stack, false);
    let addresses: Vec<String> = replicas(&stack)?.into_iter().map(|(_, address)| address).collect();
    let (first, all) = (addresses[..1].iter().cloned().collect(), addresses.into_iter().collect());
    for _ in 0..2 {
        for (what, expected) in [("the first one alone", &first), ("all three", &all)] {
            wait_for(what, PATIENCE, || Ok((backends(&stack)? == *expected).then_some(())))?;
        }
        requests.unharmed()?;
    }
    requests.end_unharmed()
}

#[test]
fn when_all_are_ill_clients_are_sent_to_all() -> Result<()> {
    let stack = Stack::start(Node::builder(), &flapping(&[]))?;
    let requests = Requests::fresh(&stack, false);
    let addresses = wait_for("all of them ill", PATIENCE, || {
        let all = replicas(&stack)?;
        Ok(all.iter().all(|(state, _)| state == "unhealthy").then(|| all.into_iter().map(|(_, address)| address)))
    })?;
    let expected: BTreeSet<String> = addresses.collect();
    let report = stack.node.skepctl_json(&["-p", "shop", "-e", "production", "why", "client", "web:8080"])?;
    let told = report["replicas"].to_string();
    ensure!(told.matches("is unhealthy").count() == 3, "{report:#}");
    wait_for("all of them as backends", PATIENCE, || Ok((backends(&stack)? == expected).then_some(())))?;
    requests.unharmed()?;
    requests.end_unharmed()
}
