//! A database is told another password, and whoever gets it as a variable is deployed anew.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::images::{Database, Image};
use tests::wait_for;

use crate::stack::{PATIENCE, Stack, cache, database, shell};

const CLIENT: &str = include_str!("client.py");
/// Of a service, at once.
const CLIENTS: usize = 2;
/// Answers that say that a client is at work.
const PROOF: u64 = 10;
/// What every layer that a password goes through would like to read otherwise.
const AWKWARD: &str = r#"it's \ a "new" $one: %41/?#[@]&{ü}`"#;

/// What a client was answered.
#[derive(Debug)]
struct Tally {
    answered: u64,
    last: u64,
    /// How much that was, as the client said when it ended.
    ended: Option<u64>,
}

/// What is in the database, read from within.
fn psql(stack: &Stack, query: &str) -> Result<String> {
    stack.sh("postgres", &format!("psql -U \"$POSTGRES_USER\" -d \"$POSTGRES_DB\" -AtF, -c \"{query}\""))
}

fn tallies(stack: &Stack) -> Result<BTreeMap<String, Tally>> {
    let rows = psql(
        stack,
        "SELECT client, count(*), max(answered.number), max(ended.number)
            FROM answered LEFT JOIN ended USING (client) GROUP BY client",
    )?;
    let tally = |row: &str| {
        let mut fields = row.split(',');
        let client = fields.next()?.to_owned();
        let mut number = || fields.next()?.parse().ok();
        Some((client, Tally { answered: number()?, last: number()?, ended: number() }))
    };
    rows.lines().map(|row| tally(row).with_context(|| format!("not a row: {row}"))).collect()
}

/// What was answered to each client that is at work.
fn answered(stack: &Stack) -> Result<BTreeMap<String, u64>> {
    let at_work = tallies(stack)?.into_iter().filter(|(_, tally)| tally.ended.is_none());
    Ok(at_work.map(|(client, tally)| (client, tally.answered)).collect())
}

/// Waits until so many clients have ended in all, and as many as there are to be are at work.
fn until_ended(stack: &Stack, ended: usize) -> Result<()> {
    wait_for(&format!("{ended} clients that ended, and {CLIENTS} at work"), PATIENCE, || {
        let tallies = tallies(stack)?;
        let has_ended = tallies.values().filter(|tally| tally.ended.is_some()).count();
        let at_work = tallies.values().filter(|tally| tally.ended.is_none() && tally.answered >= PROOF).count();
        ensure!(has_ended == ended && at_work == CLIENTS, "{tallies:#?}");
        Ok(Some(()))
    })
}

fn record(stack: &Stack, service: &str) -> Result<Value> {
    let rows: Vec<Value> = serde_json::from_str(&stack.skepctl(&["-o", "json", "secrets", "list"])?)?;
    let found = rows.iter().find(|row| row["service"] == service && row["environment"] == stack.environment);
    found.cloned().with_context(|| format!("nothing of {service} in {rows:#?}"))
}

#[test]
fn no_query_of_a_client_that_reconnects_is_lost_while_the_password_changes() -> Result<()> {
    let app = json!({
        "image": Image::Clients.tag(),
        "command": ["python3", "-u", "-c", CLIENT],
        "stop_grace_period": "30s",
        "x-skep": { "drain_timeout": "1s" },
        "deploy": { "replicas": CLIENTS, "update_config": { "monitor": "1s" } },
    });
    let stack = Stack::up("load", &json!({ "postgres": database(Database::Postgres, "postgres"), "app": app }))?;
    let tables = "CREATE TABLE answered (client uuid, number int, PRIMARY KEY (client, number));
        CREATE TABLE ended (client uuid PRIMARY KEY, number int)";
    stack.patiently("postgres", &format!("psql -U \"$POSTGRES_USER\" -h localhost app -c '{tables}'"))?;
    until_ended(&stack, 0)?;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let mut old = stack.variable("app", "DATABASE_URL")?;
    for (round, change) in [None, Some(AWKWARD)].into_iter().enumerate() {
        // They do come back by what their own environment says.
        let before = answered(&stack)?;
        ensure!(psql(&stack, cut)?.lines().count() == CLIENTS, "not every client held a connection");
        wait_for("answers over other connections", PATIENCE, || {
            let now = answered(&stack)?;
            Ok(before.iter().all(|(client, count)| now[client] >= count + PROOF).then_some(()))
        })?;
        match change {
            None => drop(stack.skepctl(&["secrets", "rotate", "postgres"])?),
            Some(password) => {
                let output = stack.skepctl_reading(password, &["secrets", "set", "postgres"])?;
                ensure!(output.status.success(), "{output:?}");
            }
        }
        until_ended(&stack, CLIENTS * (round + 1))?;
        let new = stack.variable("app", "DATABASE_URL")?;
        let user = |url: &str| url.split(':').nth(1).map(str::to_owned);
        ensure!(new != old && user(&new) == user(&old), "the role was not altered, but replaced or left alone");
        stack.refused("app", &format!("psql '{old}' -c 'SELECT 1'"), "password authentication failed")?;
        ensure!(stack.sh("app", "psql \"$DATABASE_URL\" -Atc 'SELECT 1'")? == "1");
        let record = record(&stack, "postgres")?;
        ensure!(record["version"] == round + 2 && record["changing"] == false, "{record}");
        ensure!(record["consumers"]["app"] == json!(["DATABASE_URL", "POSTGRES_DATABASE_URL"]), "{record}");
        old = new;
    }
    for (client, tally) in tallies(&stack)? {
        let lost = tally.answered != tally.last || tally.ended.is_some_and(|ended| ended != tally.last);
        ensure!(!lost, "{client} lost a query: {tally:?}");
    }
    Ok(())
}

#[test]
fn mariadb_and_caches_take_another_password_and_their_clients_get_it() -> Result<()> {
    let stack = Stack::up(
        "change",
        &json!({
            "mariadb": database(Database::Mariadb, "mariadb"),
            "redis": cache(Database::Redis),
            "valkey": cache(Database::Valkey),
            "shell": shell(),
        }),
    )?;
    wait_for("MariaDB's answer", PATIENCE, || stack.mariadb("shell", None, "SELECT 1").map(Some))?;
    let server = stack.replica("mariadb")?.replica().container.clone();
    let before = stack.variables("shell")?;
    for (service, wait) in [("mariadb", "--no-wait"), ("redis", "--no-wait"), ("valkey", "--wait")] {
        let output = stack.skepctl_reading(&format!("{AWKWARD}\n"), &["secrets", "set", service, wait])?;
        ensure!(output.status.success(), "{service}: {output:?}");
        ensure!(record(&stack, service)?["version"] == 2);
    }
    stack.mariadb("shell", None, "SELECT 1")?;
    let password = before["MYSQL_URL"].split('@').next().and_then(|head| head.rsplit(':').next());
    stack.mariadb_refuses("shell", password.context("no password in the URL")?)?;
    for (service, variable) in [("redis", "REDIS_URL"), ("valkey", "VALKEY_REDIS_URL")] {
        let ping = |url: &str| format!("{service}-cli --no-auth-warning -u {url} PING 2>&1");
        let answer = stack.sh("shell", &ping(&format!("\"${variable}\"")))?;
        ensure!(answer == "PONG", "{service}: {answer}");
        stack.refused("shell", &ping(&format!("'{}'", before[variable])), "WRONGPASS")?;
        let health = stack.sh(service, &format!("{service}-cli PING"))?;
        ensure!(health == "PONG", "{service}'s own check: {health}");
    }
    // A database is told, not made anew.
    ensure!(stack.replica("mariadb")?.replica().container == server, "MariaDB was started anew");
    Ok(())
}
