//! skepd dies at every step of a deployment: at every transaction of the controller, at every op of the agent. The next
//! one finishes the deployment or undoes it, no request fails, and nothing is left over.
//!
//! Which steps there are, nobody counts: each daemon does one and dies, until there is none left.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, ensure};
use dataplane::model::{Deployment, DeploymentState, Phase};
use dataplane::store::Embedded;
use serde_json::{Value, json};
use tests::faults::Picture;
use tests::{Node, wait_for};

use crate::requests::Requests;
use crate::stack::{PATIENCE, Row, Stack, web, with};

/// No deployment here has as many steps.
const CHAIN_MAX: usize = 200;
const OPS: &str = "--abort-at";
const TRANSACTIONS: &str = "--abort-at-txn";

/// In two batches with a pause: every phase there is.
fn good(version: u32) -> Value {
    let rollout = json!({ "parallelism": 1, "monitor": "500ms", "delay": "500ms" });
    let deploy = json!({ "replicas": 2, "update_config": rollout, "rollback_config": rollout });
    with(web(version), json!({ "deploy": deploy, "x-skep": { "release": "true" } }))
}

/// The same, and the second replica is never well: by then clients have been sent to the first.
fn bad(version: u32) -> Value {
    let health = json!({ "path": "/health", "interval": "200ms", "retries": 3 });
    let own = json!({ "health": health, "start_timeout": "5s" });
    with(good(version), json!({ "command": ["web", "second", "sick=0"], "x-skep": own }))
}

/// Where a daemon died: the last line is what it was at.
type Deaths = Vec<(DeploymentState, Phase, bool)>;

struct Bench {
    stack: Stack,
    requests: Requests,
    /// The last one asked for.
    version: u32,
    serving: u32,
    /// How many lines there are when one version serves; each has names and addresses of its own.
    lines: usize,
}

impl Bench {
    /// skepd runs when this returns, and between the rounds.
    fn start() -> Result<Self> {
        let stack = Stack::start(Node::builder(), &good(1))?;
        let requests = Requests::all(&stack, true);
        requests.unharmed()?;
        let lines = stack.picture()?.lines().len();
        Ok(Self { stack, requests, version: 1, serving: 1, lines })
    }

    /// A deployment in which each daemon dies at `at`; gives where.
    fn round(&mut self, next: fn(u32) -> Value, option: &str, at: &str) -> Result<Deaths> {
        self.version += 1;
        let web = next(self.version);
        let what = format!("version {} with {option} {at}", self.version);
        self.stack.node.kill_skepd()?;
        let deaths = self.chain(&web, option, at).with_context(|| what.clone())?;
        println!("{what}: {} deaths at {deaths:?}", deaths.len());
        self.stack.node.kill_skepd()?;
        self.stack.node.start_skepd()?;
        self.whole().with_context(|| format!("{what}, after {deaths:?}"))?;
        Ok(deaths)
    }

    fn chain(&self, web: &Value, option: &str, at: &str) -> Result<Deaths> {
        let (mut deaths, mut accepted) = (Deaths::new(), false);
        loop {
            self.stack.node.spawn_skepd(&[option, at])?;
            if !accepted {
                let node = &self.stack.node;
                wait_for("skepd's API", PATIENCE, || {
                    Ok((UnixStream::connect(node.socket()).is_ok() || node.skepd_ended()?.is_some()).then_some(()))
                })?;
                // It may die before it answers.
                accepted = self.stack.send_up(web)?.success;
            }
            let died = wait_for("the daemon's end, or the deployment's", 3 * PATIENCE, || {
                if self.stack.node.skepd_ended()?.is_some() {
                    return Ok(Some(true));
                }
                Ok((accepted && self.is_over()?).then_some(false))
            })?;
            if !died {
                return Ok(deaths);
            }
            self.stack.node.kill_skepd()?;
            deaths.extend(self.stored()?.map(|of| (of.state, of.phase, of.reason.is_some())));
            ensure!(deaths.len() < CHAIN_MAX, "it never ends: {deaths:?}");
        }
    }

    /// Whether the last deployment has come to its end, and what it replaced is gone.
    fn is_over(&self) -> Result<bool> {
        // The daemon may die at any moment.
        let Ok(rows) = self.stack.history() else { return Ok(false) };
        let over = |row: &Row| row.deployment == self.version && ["ready", "failed"].contains(&row.state.as_str());
        let serves = rows.iter().filter(|row| row.serves).map(|row| row.deployment).collect::<Vec<_>>();
        Ok(rows.iter().any(over)
            && self.stack.present()? == serves
            && self.stack.node.replicas().is_ok_and(|all| {
                all.iter().filter(|replica| replica.service == "web").all(|replica| replica.state == "running")
            }))
    }

    /// The last deployment as it is in the store; no daemon may run.
    fn stored(&self) -> Result<Option<Deployment>> {
        let store = Embedded::read(&self.stack.node.state_directory().join("store.redb"))?;
        let key = format!("/deployments/shop/production/web/{}", self.version);
        let record = store.entries.iter().find(|(found, _)| **found == key);
        record.map(|(_, record)| serde_json::from_slice(&record.value).context("a deployment")).transpose()
    }

    /// Waits until one version serves alone, and nothing is there that was not there with the one before.
    fn whole(&mut self) -> Result<()> {
        wait_for("one version alone", PATIENCE, || Ok(self.is_over()?.then_some(())))?;
        let row = self.stack.history()?.into_iter().find(|row| row.serves).context("nothing serves")?;
        ensure!(row.state == "ready", "{row:?}");
        self.serving = row.deployment;
        let mut last = Picture::default();
        let same = wait_for("as much as before", PATIENCE, || {
            last = self.stack.picture()?;
            Ok((last.lines().len() == self.lines && last.lingering().is_empty()).then_some(()))
        });
        same.with_context(|| format!("{} lines, {} now: {last:#?}", self.lines, last.lines().len()))?;
        self.requests.unharmed()
    }
}

/// Somebody died in each of these.
fn covers(deaths: &Deaths, phases: &[Phase], back: bool) -> Result<()> {
    let there: BTreeSet<String> = deaths.iter().filter(|it| it.2 == back).map(|it| format!("{:?}", it.1)).collect();
    let missed: Vec<_> = phases.iter().filter(|phase| !there.contains(&format!("{phase:?}"))).collect();
    ensure!(
        missed.is_empty(),
        "nobody died in {missed:?}, {}: {deaths:?}",
        if back { "going back" } else { "forward" }
    );
    Ok(())
}

#[test]
fn whoever_dies_at_any_transaction_is_followed_by_one_that_finishes() -> Result<()> {
    use Phase::{Draining, Monitoring, Over, Pausing, Preparing, Releasing, Settling, Starting, Switching};
    let mut bench = Bench::start()?;
    let all = [Releasing, Preparing, Starting, Monitoring, Switching, Settling, Draining, Pausing];
    for (at, last) in [("after:1", &[Over][..]), ("before:2", &[])] {
        let deaths = bench.round(good, TRANSACTIONS, at)?;
        ensure!(bench.serving == bench.version, "deployment {} serves", bench.serving);
        covers(&deaths, &[&all[..], last].concat(), false)?;
    }
    bench.requests.end_unharmed()
}

#[test]
fn whoever_dies_at_any_transaction_of_a_failure_is_followed_by_one_that_undoes() -> Result<()> {
    use Phase::{Draining, Preparing, Settling, Switching};
    let mut bench = Bench::start()?;
    for at in ["after:1", "before:2"] {
        let deaths = bench.round(bad, TRANSACTIONS, at)?;
        ensure!(bench.serving == 1, "deployment {} serves", bench.serving);
        let row = bench.stack.row(bench.version)?;
        let reason = row.reason.as_deref().unwrap_or_default();
        ensure!(row.state == "failed" && reason.contains("GET /health: 503"), "{row:?}");
        covers(&deaths, &[Preparing, Switching, Settling, Draining], true)?;
    }
    bench.requests.end_unharmed()
}

#[test]
fn whoever_dies_at_any_op_is_followed_by_one_that_finishes() -> Result<()> {
    let mut bench = Bench::start()?;
    let ats: &[&str] = if std::env::var_os("SKEP_LONG").is_some() { &["after:1", "before:2"] } else { &["after:1"] };
    for at in ats {
        let deaths = bench.round(good, OPS, at)?;
        // Of each of two replicas a sandbox, a workload and a veth pair come, and as many go.
        ensure!(deaths.len() >= 12, "{deaths:?}");
        ensure!(bench.serving == bench.version, "deployment {} serves", bench.serving);
    }
    bench.requests.end_unharmed()
}
