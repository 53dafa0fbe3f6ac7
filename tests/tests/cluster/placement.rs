//! Where replicas go.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::{Container, images::Image, wait_for};

use super::scene::{self, cluster, node_of};

const COMPOSE: &str = "
services:
  web:
    image: tools:latest
    command: [sleep, inf]
    deploy: {replicas: 3}
";

#[test]
fn replicas_spread_over_the_nodes_and_reach_each_other() -> Result<()> {
    let cluster = cluster(3, &[Image::Tools])?;
    let first = &cluster.nodes()[0];
    first.up("shop", "production", COMPOSE)?;
    let replicas = first.replicas()?;
    let nodes: BTreeSet<_> = replicas.iter().map(|replica| &replica.node).collect();
    ensure!(replicas.len() == 3 && nodes.len() == 3, "{replicas:?}");
    let containers: Vec<Container<'_>> = replicas
        .iter()
        .map(|replica| {
            let node = node_of(&cluster, &replica.node)?;
            ensure!(node.replicas()?.len() == 3, "each node tells of all");
            node.replica("shop", "production", "web", replica.replica)
        })
        .collect::<Result<_>>()?;
    for from in &containers {
        for to in &replicas {
            for address in [&to.address, &to.address6].into_iter().flatten() {
                wait_for(&format!("{} reaches {address}", from.replica().node), Duration::from_secs(20), || {
                    Ok(from.net(&["ping", "-c1", "-W1", address]).ok())
                })?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_drained_node_keeps_nothing_that_can_go_and_a_removed_one_is_forgotten() -> Result<()> {
    let cluster = cluster(2, &[Image::Tools])?;
    let [first, second] = cluster.nodes() else { unreachable!("two nodes") };
    first.up("shop", "production", COMPOSE)?;
    let kept =
        "services: {db: {image: 'tools:latest', command: [sleep, inf], volumes: ['data:/data']}}\nvolumes: {data: }";
    scene::only(&cluster, second)?;
    first.up("blog", "production", kept)?;
    first.skepctl(&["nodes", "uncordon", first.machine().name()])?;

    first.skepctl(&["nodes", "drain", second.machine().name()])?;
    wait_for("the node to be empty but for the volume's service", Duration::from_secs(60), || {
        let replicas = first.replicas()?;
        let there: Vec<_> = replicas.iter().filter(|replica| replica.node == second.machine().name()).collect();
        let running = replicas.iter().filter(|replica| replica.state == "running").count();
        Ok((there.len() == 1 && there[0].service == "db" && running == 4).then_some(()))
    })?;
    // A new version goes to where the data is, cordoned or not.
    first.skepctl(&["-p", "blog", "deploy", "db"])?;
    let moved =
        first.replicas()?.iter().any(|replica| replica.service == "db" && replica.node != second.machine().name());
    ensure!(!moved, "the service left its volume");

    let refused = |why: &str| -> Result<()> {
        let output = first.skepctl_output(&["nodes", "remove", second.machine().name()])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(why), "{said}");
        Ok(())
    };
    refused("is there")?;
    first.skepctl(&["-p", "blog", "down", "--volumes"])?;
    ensure!(second.stop_skepd()?.success());
    wait_for("the node to be forgotten", Duration::from_secs(30), || {
        let output = first.skepctl_output(&["nodes", "remove", second.machine().name()])?;
        Ok(output.status.success().then_some(()))
    })?;
    let nodes = first.skepctl_json(&["nodes"])?;
    ensure!(nodes.as_array().is_some_and(|nodes| nodes.len() == 1), "{nodes}");
    wait_for("the tunnel to be gone", Duration::from_secs(20), || {
        Ok((!first.output(&["ip", "link", "show", "skep0"])?.status.success()).then_some(()))
    })?;
    Ok(())
}

/// A service that reserves so many octets on nodes with a label.
fn picky(replicas: u32, octets: u64) -> String {
    format!(
        "
services:
  web:
    image: tools:latest
    command: [sleep, inf]
    deploy:
      replicas: {replicas}
      placement: {{constraints: [node.labels.disk==ssd]}}
      resources: {{reservations: {{memory: {octets}}}}}
"
    )
}

#[test]
fn replicas_go_where_constraints_hold_and_what_nobody_takes_says_why() -> Result<()> {
    let cluster = cluster(3, &[Image::Tools])?;
    let [first, second, third] = cluster.nodes() else { unreachable!("three nodes") };
    let name = |node: &tests::Node| node.machine().name().to_owned();
    let row = |node: &tests::Node| scene::row(first, node);
    let told = |arguments: &[&str]| -> Result<String> {
        let output = first.skepctl_output(arguments)?;
        ensure!(!output.status.success(), "{arguments:?} succeeded");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };

    first.skepctl(&["nodes", "label", &name(second), "disk=ssd"])?;
    first.skepctl(&["nodes", "label", &name(third), "disk=ssd", "zone=a"])?;
    first.skepctl(&["nodes", "label", &name(third), "zone-"])?;
    first.skepctl(&["nodes", "cordon", &name(third)])?;
    first.skepctl(&["nodes", "uncordon", &name(third)])?;
    ensure!(row(third)?["labels"] == serde_json::json!({"disk": "ssd"}), "{}", row(third)?);
    // Two do not fit on one of these nodes, which all have the memory of this machine.
    let octets = row(first)?["capacity"]["memory"].as_u64().context("a node tells what it has")? / 10 * 6;
    first.up("shop", "production", &picky(2, octets))?;
    let places = |service: &str| -> Result<BTreeSet<String>> {
        Ok(first.replicas()?.into_iter().filter(|it| it.service == service).map(|it| it.node).collect())
    };
    ensure!(places("web")? == [name(second), name(third)].into(), "{:?}", first.replicas()?);
    ensure!(row(second)?["reserved"]["memory"] == octets, "{}", row(second)?);

    let refused = told(&["-p", "shop", "scale", "web", "3"])?;
    ensure!(refused.contains(&format!("{}: no label disk=ssd", name(first))), "{refused}");
    ensure!(refused.contains(&format!("{}: ", name(second))) && refused.contains("reserved; "), "{refused}");
    ensure!(refused.contains(&format!("`skepctl nodes label {} disk=ssd`", name(first))), "{refused}");

    // What runs stays, whatever becomes of labels and roles; what is lost has nowhere to go, and says why.
    first.skepctl(&["nodes", "label", &name(second), "disk-"])?;
    first.skepctl(&["nodes", "roles", &name(first), "control,build"])?;
    let before = places("web")?;
    first.up(
        "blog",
        "production",
        "services: {blog: {image: 'tools:latest', command: [sleep, inf], deploy: {replicas: 4}}}",
    )?;
    ensure!(
        places("blog")? == [name(second), name(third)].into() && places("web")? == before,
        "{:?}",
        first.replicas()?
    );
    ensure!(third.stop_skepd()?.success());
    let why = format!("was on node {}, which is lost, and no node takes", name(third));
    wait_for("a reason", Duration::from_secs(60), || {
        let file = first.compose_file("shop", "production", &picky(2, octets))?;
        let output = first.skepctl_output(&["-p", "shop", "up", "--wait", "-f", &file])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((said.contains(&why) && said.contains("not of the role compute")).then_some(()))
    })?;
    let rows = first.skepctl(&["ps"])?;
    ensure!(rows.contains(&format!("node {} is away", name(third))), "{rows}");
    third.start_skepd()?;
    wait_for("all to be well with the node", Duration::from_secs(60), || {
        Ok(first.up("shop", "production", &picky(2, octets)).ok())
    })?;
    ensure!(places("web")? == before, "{:?}", first.replicas()?);

    // Who gives the control away is not the controller any more, and somebody has to be.
    first.skepctl(&["nodes", "roles", &name(first), "compute"])?;
    first.skepctl(&["nodes", "roles", &name(second), "compute"])?;
    let refused = told(&["nodes", "roles", &name(third), "compute"])?;
    ensure!(refused.contains("no other node that is there has the role control"), "{refused}");
    first.skepctl(&["-p", "blog", "scale", "blog", "5"])?;
    let log = [first, second].map(tests::Node::skepd_log).into_iter().collect::<Result<String>>()?;
    ensure!(log.contains("Resigned"), "one of them was the controller");
    Ok(())
}
