//! What an environment stored outlives it until somebody says otherwise; then it goes, whoever dies in between.

use std::os::unix::net::UnixStream;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::images::Image;
use tests::{Node, wait_for};

/// For what takes seconds; an upper bound for a busy computer.
const PATIENCE: Duration = Duration::from_secs(60);
/// More ops than there are in `down`.
const DEATHS_MAX: usize = 60;
const DATA: &str = "/var/lib/postgresql/data/there";

/// A node that takes this image for a database.
fn start() -> Result<Node> {
    let node = Node::start()?;
    node.load(&[Image::Musl])?;
    node.docker(&["tag", Image::Musl.tag(), "postgres:16"])?;
    Ok(node)
}

fn compose() -> String {
    let sleep = json!(["sleep", "inf"]);
    let db = json!({ "image": "postgres:16", "command": sleep, "volumes": ["data:/var/lib/postgresql/data"],
        "stop_grace_period": "0s" });
    json!({ "services": { "db": db }, "volumes": { "data": {} } }).to_string()
}

fn about<'a>(environment: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["-p", "shop", "-e", environment], arguments].concat()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What the database was told to ask for.
fn password(node: &Node, environment: &str) -> Result<String> {
    let found = node.replica("shop", environment, "db", 1)?.exec(&["sh", "-c", "echo $POSTGRES_PASSWORD"])?;
    ensure!(!found.trim().is_empty(), "there is none");
    Ok(found)
}

/// Whether the volume has what was put there.
fn is_there(node: &Node) -> Result<bool> {
    Ok(node.replica("shop", "production", "db", 1)?.exec_output(&["test", "-e", DATA])?.status.success())
}

fn volumes(node: &Node) -> Result<Vec<String>> {
    let names = node.docker(&["volume", "ls", "--format", "{{.Name}}"])?;
    Ok(names.lines().map(str::to_owned).collect())
}

#[test]
fn volumes_and_credentials_stay_unless_it_is_said_otherwise() -> Result<()> {
    let node = start()?;
    for environment in ["production", "staging"] {
        node.up("shop", environment, &compose())?;
    }
    let (first, staging) = (password(&node, "production")?, password(&node, "staging")?);
    node.replica("shop", "production", "db", 1)?.exec(&["touch", DATA])?;

    let said = node.skepctl_output(&about("production", &["down"]))?;
    ensure!(said.status.success(), "{}", told(&said));
    let line = "kept volumes: data; kept credentials: db; remove with --volumes";
    ensure!(told(&said).lines().any(|it| it == line), "{}", told(&said));
    node.up("shop", "production", &compose())?;
    ensure!(password(&node, "production")? == first && is_there(&node)?, "they were kept");

    let plan = node.skepctl(&about("production", &["down", "--volumes", "--dry-run"]))?;
    let last = plan.lines().last().context("no plan")?;
    ensure!(last == "remove the volumes and credentials of shop/production", "{plan}");
    let said = node.skepctl_output(&about("production", &["down", "--volumes"]))?;
    ensure!(said.status.success() && !told(&said).contains("kept"), "{}", told(&said));
    ensure!(volumes(&node)? == ["shop_staging_data"], "{:?}", volumes(&node)?);
    node.up("shop", "production", &compose())?;
    ensure!(password(&node, "production")? != first && !is_there(&node)?, "they are new");

    // What an earlier one has kept.
    node.down("shop", "production")?;
    ensure!(volumes(&node)?.len() == 2, "{:?}", volumes(&node)?);
    node.skepctl(&about("production", &["down", "--volumes"]))?;
    ensure!(volumes(&node)? == ["shop_staging_data"], "{:?}", volumes(&node)?);
    let said = node.skepctl_output(&about("production", &["down", "--volumes"]))?;
    ensure!(
        !said.status.success() && told(&said).contains("there is no environment shop/production"),
        "{}",
        told(&said)
    );
    ensure!(password(&node, "staging")? == staging, "of another environment");
    Ok(())
}

#[test]
fn what_stands_in_the_way_is_told_and_it_goes_on_when_that_is_gone() -> Result<()> {
    let node = start()?;
    node.up("shop", "production", &compose())?;
    let volume = "shop_production_data:/data";
    node.docker(&[
        "run",
        "--detach",
        "--name=mine",
        "--network=none",
        "-v",
        volume,
        Image::Musl.tag(),
        "sleep",
        "inf",
    ])?;
    let said = node.skepctl_output(&about("production", &["down", "--volumes"]))?;
    ensure!(!said.status.success() && told(&said).contains("in use"), "{}", told(&said));
    let file = node.compose_file("shop", "production", &compose())?;
    let said = node.skepctl_output(&about("production", &["up", "-f", &file]))?;
    ensure!(!said.status.success() && told(&said).contains("still being removed"), "{}", told(&said));
    node.docker(&["rm", "--force", "mine"])?;
    wait_for("the volume is gone", PATIENCE, || Ok(volumes(&node)?.is_empty().then_some(())))?;
    wait_for("it can come back", PATIENCE, || {
        Ok(node.skepctl_output(&about("production", &["up", "-f", &file]))?.status.success().then_some(()))
    })
}

/// The op that the last daemon died at.
fn last_op(node: &Node) -> Result<String> {
    let log = node.skepd_log()?;
    let line = log.lines().rev().find(|line| line.contains("--abort-at says")).context("it died by itself")?;
    let line: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
    Ok(line["op"].as_str().context("no op in the line")?.to_owned())
}

/// `down --volumes` with daemons of which each dies at `at`, until one has nothing left to do: at which ops they did.
fn die(node: &Node, at: &str) -> Result<Vec<String>> {
    node.kill_skepd()?;
    node.spawn_skepd(&["--abort-at", at])?;
    wait_for("skepd's API", PATIENCE, || {
        Ok((UnixStream::connect(node.socket()).is_ok() || node.skepd_ended()?.is_some()).then_some(()))
    })?;
    // It may die before it answers.
    node.skepctl_output(&about("production", &["down", "--volumes", "--no-wait"]))?;
    let mut ops = Vec::new();
    loop {
        let ended = wait_for("the daemon's end, or the work's", PATIENCE, || {
            if node.skepd_ended()?.is_some() {
                return Ok(Some(true));
            }
            let said = node.skepctl_output(&about("production", &["down", "--volumes", "--dry-run"]))?;
            Ok(told(&said).contains("there is no environment").then_some(false))
        })?;
        if !ended {
            return Ok(ops);
        }
        ops.push(last_op(node)?);
        ensure!(ops.len() < DEATHS_MAX, "it never ends: {ops:#?}");
        node.kill_skepd()?;
        node.spawn_skepd(&["--abort-at", at])?;
    }
}

#[test]
fn whoever_dies_at_any_op_is_followed_by_one_that_removes_what_was_stored() -> Result<()> {
    let node = start()?;
    for at in ["after:1", "before:2"] {
        node.up("shop", "production", &compose())?;
        let before = password(&node, "production")?;
        let ops = die(&node, at)?;
        println!("{at}: {ops:#?}");
        let discards = ops.iter().any(|op| op == "remove the volumes and credentials of shop/production");
        ensure!((discards || at != "after:1") && ops.len() > 3, "{at}: {ops:#?}");
        node.kill_skepd()?;
        node.start_skepd()?;
        ensure!(volumes(&node)?.is_empty(), "{at}: {:?}", volumes(&node)?);
        node.up("shop", "production", &compose())?;
        ensure!(password(&node, "production")? != before, "{at}: the credentials are those of the old volume");
    }
    Ok(())
}
