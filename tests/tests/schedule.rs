//! What has a schedule runs when it is due, once at a time, and people can see what became of it.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tests::images::Image;
use tests::{Node, wait_for};

/// For what takes seconds; an upper bound for a busy computer.
const PATIENCE: Duration = Duration::from_secs(90);
const SCHEDULE: &str = "*/5 * * * * *";
const PERIOD: Duration = Duration::from_secs(5);
const PROJECT: [&str; 4] = ["-p", "shop", "-e", "production"];
/// Asks the database by its name, and wants to have been told where it is.
const ASK: &str = "printf 'GET / HTTP/1.0\r\n\r\n' | nc db 8080 | grep -q HTTP || exit 4
test -n \"$$API_URL\" || exit 5";

/// A line of `skepctl runs -o json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Run {
    service: String,
    run: u32,
    deployment: u32,
    state: String,
    due: u64,
    started: Option<u64>,
    ended: Option<u64>,
    status: Option<i64>,
    reason: Option<String>,
}

fn runs(node: &Node, service: &str) -> Result<Vec<Run>> {
    let rows = node.skepctl_json(&[&PROJECT[..], &["runs", service]].concat())?;
    serde_json::from_value(rows).context("rows are not as documented")
}

/// Waits until a run of the service is like that.
fn until(node: &Node, service: &str, what: &str, is: impl Fn(&Run) -> bool) -> Result<Run> {
    wait_for(&format!("a run of {service} that {what}"), PATIENCE, || {
        let rows = runs(node, service)?;
        let found = rows.iter().find(|run| is(run)).cloned();
        if found.is_none() { Err(anyhow::anyhow!("{rows:#?}")) } else { Ok(found) }
    })
}

/// What `skepctl ps` says of a service: state and message of each line.
fn ps(node: &Node, service: &str) -> Result<Vec<(String, String)>> {
    let rows = node.skepctl_json(&[&PROJECT[..], &["ps"]].concat())?;
    let rows = rows.as_array().context("no list")?.iter().filter(|row| row["service"] == service);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(rows.map(|row| (text(&row["state"]), text(&row["message"]))).collect())
}

fn until_ps(node: &Node, service: &str, told: &[&str]) -> Result<()> {
    wait_for(&format!("`ps` says {told:?} of {service}"), PATIENCE, || {
        let rows = ps(node, service)?;
        let is = |(state, message): &(String, String)| {
            state == "scheduled" && told.iter().all(|part| message.contains(part))
        };
        if rows.iter().any(is) { Ok(Some(())) } else { Err(anyhow::anyhow!("{rows:?}")) }
    })
}

fn millis() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().try_into()?)
}

fn scheduled(command: &str) -> Value {
    json!({ "image": Image::Musl.tag(), "command": ["sh", "-c", command], "x-skep": { "schedule": SCHEDULE } })
}

fn start() -> Result<Node> {
    let node = Node::start()?;
    node.load(&[Image::Musl])?;
    Ok(node)
}

#[test]
fn what_is_due_runs_ends_and_is_remembered() -> Result<()> {
    let node = start()?;
    let mut good = scheduled(ASK);
    good["links"] = json!(["db:api"]);
    let mut missing = scheduled("true");
    missing["image"] = json!("127.0.0.1:1/none:1");
    let db = json!({ "image": Image::Musl.tag(), "command": ["web"], "x-skep": { "port": 8080 } });
    let services = json!({
        "db": db, "good": good, "bad": scheduled("exit 3"), "long": scheduled("sleep 17"), "missing": missing,
    });
    let file = node.compose_file("shop", "production", &json!({ "services": services }).to_string())?;
    let plan = node.skepctl(&[&PROJECT[..], &["up", "--dry-run", "-f", &file]].concat())?;
    ensure!(plan.contains("start shop/production/db.1.1") && !plan.contains("start shop/production/good"), "{plan}");
    // It is done as soon as the others serve: runs are not waited for.
    node.skepctl(&[&PROJECT[..], &["up", "-f", &file]].concat())?;

    let first = until(&node, "good", "succeeded", |run| run.state == "succeeded")?;
    ensure!((first.deployment, first.status, first.reason.as_deref()) == (1, Some(0), None), "{first:?}");
    ensure!(first.due % 5_000 == 0 && first.started >= Some(first.due) && first.ended >= first.started, "{first:?}");
    let failed = until(&node, "bad", "failed", |run| run.state == "failed")?;
    ensure!(
        failed.status == Some(3) && failed.reason.as_deref() == Some("ended with status 3, without output"),
        "{failed:?}"
    );

    let address = wait_for("the long run", PATIENCE, || {
        let replicas = node.replicas()?;
        let running = replicas.into_iter().find(|replica| replica.service == "long" && replica.state == "running");
        Ok(running.and_then(|replica| replica.address))
    })?;
    let skipped = until(&node, "long", "is skipped", |run| run.state == "skipped")?;
    ensure!(skipped.started.is_none() && skipped.status.is_none(), "{skipped:?}");
    ensure!(skipped.reason.as_deref().is_some_and(|reason| reason.starts_with("run ")), "{skipped:?}");
    let backends = node.skepctl(&["map", "dump", "BACKENDS"])?;
    let db_address = node.replica("shop", "production", "db", 1)?.address()?.to_owned();
    ensure!(backends.contains(&db_address) && !backends.contains(&format!("{address} ")), "{address}: {backends}");

    let none = until(&node, "missing", "failed", |run| run.state == "failed")?;
    let reason = none.reason.clone().unwrap_or_default();
    ensure!(none.status.is_none() && reason.contains("127.0.0.1:1/none:1"), "{none:?}");
    until_ps(&node, "good", &["next run ", " UTC; run ", " succeeded"])?;
    until_ps(&node, "bad", &["next run ", "failed: ended with status 3"])?;
    let events = node.skepctl(&[&PROJECT[..], &["-o", "json", "events"]].concat())?;
    for (service, state) in [("good", "begun"), ("good", "succeeded"), ("bad", "failed"), ("long", "skipped")] {
        let is = |event: &Value| event["service"] == service && event["state"] == state;
        let lines: Vec<Value> = events.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        ensure!(lines.iter().any(is), "no {service} {state} in {events}");
    }
    let table = node.skepctl(&[&PROJECT[..], &["runs", "bad"]].concat())?;
    ensure!(table.contains("DUE") && table.contains("ended with status 3") && table.contains("scheduled"), "{table}");
    // Nothing of a run stays.
    wait_for("the first run's containers are gone", PATIENCE, || {
        let names = node.docker(&["ps", "--all", "--format", "{{.Names}}"])?;
        Ok((!names.contains("-good-1-1")).then_some(()))
    })?;
    node.down("shop", "production")?;
    ensure!(runs(&node, "good")?.is_empty(), "history of what is gone");
    Ok(())
}

#[test]
fn the_next_run_is_of_the_version_that_serves_and_of_none_while_there_are_to_be_none() -> Result<()> {
    let node = start()?;
    node.docker(&["tag", Image::Musl.tag(), "other:1"])?;
    node.up("shop", "production", &json!({ "services": { "good": scheduled("true") } }).to_string())?;
    until(&node, "good", "succeeded", |run| run.state == "succeeded")?;
    node.skepctl(&[&PROJECT[..], &["deploy", "good", "--image", "other:1"]].concat())?;
    let second = until(&node, "good", "is of the new version", |run| run.deployment == 2 && run.state == "succeeded")?;
    ensure!(second.status == Some(0), "{second:?}");
    let all = runs(&node, "good")?;
    let numbers: Vec<u32> = all.iter().map(|run| run.run).collect();
    ensure!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    let refused = node.skepctl_output(&[&PROJECT[..], &["scale", "good", "2"]].concat())?;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && told.contains("never runs twice at once"), "{told}");
    node.skepctl(&[&PROJECT[..], &["scale", "good", "0"]].concat())?;
    until_ps(&node, "good", &["no run is due"])?;
    let last = runs(&node, "good")?;
    thread::sleep(PERIOD + Duration::from_secs(1));
    ensure!(runs(&node, "good")? == last, "it ran: {last:?}");
    node.skepctl(&[&PROJECT[..], &["scale", "good", "1"]].concat())?;
    until(&node, "good", "is the next", |run| last.iter().all(|known| known.run < run.run) && run.status == Some(0))?;
    Ok(())
}

#[test]
fn what_came_due_without_skepd_is_made_up_once_and_what_ended_without_it_has_ended() -> Result<()> {
    let node = start()?;
    let mut sleeper = scheduled("sleep 8; exit 7");
    sleeper["x-skep"]["schedule"] = json!("*/20 * * * * *");
    node.up(
        "shop",
        "production",
        &json!({ "services": { "good": scheduled("true"), "sleeper": sleeper } }).to_string(),
    )?;
    let open = until(&node, "sleeper", "goes on", |run| run.state == "running")?;
    wait_for("its process", PATIENCE, || {
        let names = node.docker(&["ps", "--format", "{{.Names}}"])?;
        Ok(names.lines().any(|name| name.contains("-sleeper-") && !name.ends_with("-sandbox")).then_some(()))
    })?;
    node.kill_skepd()?;
    // Time passes, and nothing else does.
    thread::sleep(3 * PERIOD);
    let back = millis()?;
    node.start_skepd()?;
    let ended = until(&node, "sleeper", "ended", |run| run.run == open.run && run.state == "failed")?;
    ensure!(ended.status == Some(7), "{ended:?}");
    // The first that came due by itself again.
    until(&node, "good", "was begun in time", |run| run.due >= back && run.started.is_some())?;
    let all = runs(&node, "good")?;
    let late: Vec<&Run> = all.iter().filter(|run| run.due < back && run.started >= Some(back)).collect();
    ensure!(late.len() == 1, "made up {late:#?}, of {all:#?}");
    let away = |run: &Run| run.due > late[0].due && run.due < back;
    ensure!(!all.iter().any(away), "{all:#?}");
    Ok(())
}
