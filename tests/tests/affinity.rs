//! `x-skep.affinity: client`: each client is always sent to the same replica, by whichever name and family; clients are
//! spread all the same.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::images::Image;
use tests::load::Place;
use tests::probe::{Outcome, Protocol, Responder, probe};
use tests::{Container, Node};

const REPLICAS: u32 = 3;
const CLIENTS: u32 = 8;
/// How often each client asks by each address and protocol.
const TIMES: usize = 8;

fn replicas(node: &Node, service: &str, count: u32) -> Result<Vec<Responder>> {
    let start = |number| -> Result<Responder> {
        let netns = node.replica("shop", "production", service, number)?.netns()?;
        Ok(Responder::start(Place::inside(netns), format!("{service}.{number}"))?)
    };
    (1..=count).map(start).collect()
}

/// Who answers a client at the addresses of a service.
fn answers(client: &Container<'_>, service: &Container<'_>) -> Result<BTreeSet<String>> {
    let addresses: [IpAddr; 2] = [service.vip()?.parse()?, service.vip6()?.parse()?];
    let each = addresses.into_iter().flat_map(|to| [(Protocol::Tcp, to), (Protocol::ConnectedUdp, to)]);
    let probes: Vec<_> = each.cycle().take(4 * TIMES).collect();
    let outcomes = client.netns()?.enter(|| Ok(probe(&probes, |_| false)?))?;
    outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Answered(Some(by)) => Ok(by),
            other => anyhow::bail!("{}: {other}", client.name()),
        })
        .collect()
}

#[test]
fn a_client_stays_with_its_replica_and_clients_are_spread() -> Result<()> {
    let node = Node::start()?;
    node.load(&[Image::Busybox])?;
    let service = |replicas, x_skep| {
        json!({ "image": Image::Busybox.tag(), "command": ["sleep", "inf"],
        "stop_grace_period": "0s", "deploy": { "replicas": replicas }, "x-skep": x_skep })
    };
    let services = json!({ "services": {
        "any": service(REPLICAS, json!({})),
        "same_one": service(REPLICAS, json!({ "affinity": "client" })),
        "client": service(CLIENTS, json!({})),
    }});
    node.up("shop", "production", &services.to_string())?;
    let _responders = [replicas(&node, "any", REPLICAS)?, replicas(&node, "same-one", REPLICAS)?];
    let of = |service| node.replica("shop", "production", service, 1);
    let (any, same) = (of("any")?, of("same-one")?);
    let clients = (1..=CLIENTS).map(|number| node.replica("shop", "production", "client", number));
    let clients: Vec<_> = clients.collect::<Result<_>>()?;
    let check = || -> Result<Vec<String>> {
        let mut chosen = Vec::new();
        for client in &clients {
            let found: Vec<_> = answers(client, &same)?.into_iter().collect();
            ensure!(found.len() == 1, "{} was sent to {found:?}", client.name());
            chosen.extend(found);
        }
        Ok(chosen)
    };
    let chosen = check()?;
    let spread: BTreeSet<_> = chosen.iter().collect();
    ensure!(spread.len() > 1, "all clients were sent to {spread:?}");
    let client = &clients[0];
    let found = answers(client, &any)?;
    ensure!(found.len() > 1, "without affinity, one client was always sent to {found:?}");
    // Written with an underscore in the file, and so by clients.
    let said = client.exec(&["nslookup", "same_one"])?;
    ensure!(said.contains(same.vip()?), "{said}");
    node.restart_skepd()?;
    ensure!(check()? == chosen, "another replica after a restart of skepd");
    node.kill_skepd()?;
    ensure!(check().context("without skepd")? == chosen, "another replica without skepd");
    Ok(())
}
