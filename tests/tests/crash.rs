//! skepd dies at every op: of `up`, of the repair of a veth pair that is gone, of `down`. The next one finishes the work
//! or undoes it, and nothing is left over: neither on the node, by readers that know nothing of Skep, nor in the store.
//!
//! Which ops there are, nobody counts: each daemon does one and dies, until there is none left.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dataplane::store::snapshot::Record;
use dataplane::store::{Embedded, Snapshot};
use serde_json::Value;
use tests::faults::{Picture, Row, Scene, Tally};
use tests::{Node, wait_for};

/// From the start of a daemon until all is as it should be.
const WITHIN: Duration = Duration::from_secs(60);
/// A picture takes the computer more than a daemon's start does.
const LOOK: Duration = Duration::from_secs(1);
/// No phase of `ONE` has as many ops.
const CHAIN_MAX: usize = 100;
const PROJECT: [&str; 4] = ["-p", "crash", "-e", "test"];
const ONE: &str = "
services:
  web: {image: 'musl:latest', command: [serve, web], volumes: ['data:/data']}
volumes: {data: {}}
";
const SEVERAL: &str = "
services:
  web: {image: 'musl:latest', command: [serve, web], deploy: {replicas: 2}, depends_on: [db], networks: [front, back]}
  db: {image: 'musl:latest', command: [serve, db], volumes: ['data:/data'], networks: [back]}
networks: {front: {}, back: {internal: true}}
volumes: {data: {}}
";

#[test]
fn whoever_dies_at_any_op_is_followed_by_one_that_finishes_the_work_and_nothing_is_left() -> Result<()> {
    let bench = Bench::new(ONE)?;
    let mut killed = Killed::new();
    // Before the second: what the first has changed is in the store, too.
    for at in ["after:1", "before:2"] {
        for (phase, ops) in bench.round(at, Bench::chain)? {
            killed.entry(phase).or_default().extend(ops);
        }
    }
    // Some ops are planned only by a daemon that has come as far itself: to others the rest is nobody's.
    for (phase, number, op) in bench.planned_but_not_in(&killed) {
        for side in ["before", "after"] {
            let killed = bench.round(&format!("{side}:{number}"), Bench::once)?;
            let ops = killed.get(&phase).context("nobody died")?;
            ensure!(ops.contains(&op), "{phase:?}: nobody died {side} {op}, which a dry run plans, but at {ops:?}");
        }
    }
    bench.end()?;
    if std::env::var_os("SKEP_LONG").is_some() { at_each_op_of(SEVERAL) } else { Ok(()) }
}

/// One daemon dies for each op; this takes an hour.
fn at_each_op_of(compose: &str) -> Result<()> {
    let bench = Bench::new(compose)?;
    for number in 1.. {
        let mut died = false;
        for side in ["before", "after"] {
            died |= !bench.round(&format!("{side}:{number}"), Bench::once)?.is_empty();
        }
        if !died {
            break;
        }
    }
    bench.end()
}

/// What a daemon is at when it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Up,
    Replumb,
    Down,
}
const PHASES: [Phase; 3] = [Phase::Up, Phase::Replumb, Phase::Down];

/// The lines of the ops that a daemon died at.
type Killed = BTreeMap<Phase, BTreeSet<String>>;

/// A node with others' environments under load, where one more comes and goes.
struct Bench {
    scene: Scene,
    file: String,
    /// The lines of a dry run, which are in the order that one daemon does them in.
    planned: BTreeMap<Phase, Vec<String>>,
    /// The state directory before the environment was ever there: ids and addresses are the same in each round.
    saved: PathBuf,
    /// What is there after each phase of an uninterrupted round, on the node and in the store.
    expected: BTreeMap<Phase, (Picture, BTreeSet<String>)>,
    /// From the start of the daemon that follows a dead one until all is as it should be, at most.
    slowest: Cell<Duration>,
    deaths: Cell<usize>,
}

impl Bench {
    /// skepd does not run when this returns, nor between phases.
    fn new(compose: &str) -> Result<Self> {
        let scene = Scene::start(Node::builder())?;
        let file = scene.node.compose_file("crash", "test", compose)?;
        let saved = scene.node.machine().directory().join("saved-state");
        let (planned, expected, slowest, deaths) = Default::default();
        let mut bench = Self { scene, file, planned, saved, expected, slowest, deaths };
        bench.uninterrupted()?;
        Ok(bench)
    }

    /// A round in which nothing dies: what is planned, and what has to be there after each phase.
    fn uninterrupted(&mut self) -> Result<()> {
        self.scene.node.kill_skepd()?;
        self.copy_state(&self.scene.node.state_directory(), &self.saved)?;
        // The volume stays after `down`: it is there before, too.
        self.scene.node.start_skepd()?;
        self.scene.node.skepctl(&self.up("--wait"))?;
        self.scene.node.skepctl(&down("--wait"))?;
        let before = self.scene.settled()?;
        self.scene.node.kill_skepd()?;
        self.copy_state(&self.saved, &self.scene.node.state_directory())?;
        for phase in PHASES {
            let node = &self.scene.node;
            if let Some(command) = self.command(phase, "--dry-run") {
                node.start_skepd()?;
                let planned = node.skepctl(&command)?;
                self.planned.insert(phase, planned.lines().map(str::to_owned).collect());
                node.kill_skepd()?;
            }
            self.work(phase, &[])?;
            match (phase, self.expected.get(&Phase::Up)) {
                (Phase::Replumb, Some((up, _))) => self.until("the veth pairs are back", up)?,
                (Phase::Down, _) => self.until("all is gone", &before)?,
                _ => drop(node.skepctl(&self.up("--wait"))?),
            }
            let picture = self.scene.settled()?;
            node.kill_skepd()?;
            self.expected.insert(phase, (picture, self.stored()?));
        }
        Ok(())
    }

    /// Up, re-plumb and down with daemons that die, as `die` has it. At which ops they did.
    fn round(&self, at: &str, die: fn(&Self, Phase, &str) -> Result<Vec<String>>) -> Result<Killed> {
        self.copy_state(&self.saved, &self.scene.node.state_directory())?;
        let mut killed = Killed::new();
        for phase in PHASES {
            let (picture, stored) = self.expected.get(&phase).context("no expectation")?;
            let ops = die(self, phase, at)?;
            self.scene.node.kill_skepd()?;
            let begun = Instant::now();
            self.scene.node.start_skepd()?;
            let what = format!("{phase:?} {at}, dead at {ops:#?}");
            self.until(&what, picture)?;
            self.until_stored(&what, stored)?;
            self.slowest.set(self.slowest.get().max(begun.elapsed()));
            self.deaths.set(self.deaths.get() + ops.len());
            self.scene.node.kill_skepd()?;
            let now = self.stored()?;
            ensure!(*stored == now, "{what}: {}", changes(stored, &now));
            let tally = self.scene.tally();
            ensure!(tally.failures == 0 && tally.isolation == 0, "{what}: the load: {tally:?}");
            println!("{what}");
            if !ops.is_empty() {
                killed.entry(phase).or_default().extend(ops);
            }
        }
        Ok(killed)
    }

    /// One daemon dies at `at`.
    fn once(&self, phase: Phase, at: &str) -> Result<Vec<String>> {
        self.work(phase, &["--abort-at", at])?;
        Ok(self.death(phase, at)?.into_iter().collect())
    }

    /// Each daemon dies at `at`, until one finds nothing left to do.
    fn chain(&self, phase: Phase, at: &str) -> Result<Vec<String>> {
        let mut ops = Vec::new();
        self.work(phase, &["--abort-at", at])?;
        while let Some(op) = self.death(phase, at)? {
            ops.push(op);
            ensure!(ops.len() < CHAIN_MAX, "{phase:?}: it never ends: {ops:#?}");
            self.scene.node.kill_skepd()?;
            self.scene.node.spawn_skepd(&["--abort-at", at])?;
        }
        Ok(ops)
    }

    /// Ops of a dry run that nobody died at yet, with their number.
    fn planned_but_not_in(&self, killed: &Killed) -> Vec<(Phase, usize, String)> {
        let numbered =
            self.planned.iter().flat_map(|(phase, ops)| (1..).zip(ops).map(|(number, op)| (*phase, number, op)));
        let missed = numbered.filter(|(phase, _, op)| !killed.get(phase).is_some_and(|ops| ops.contains(*op)));
        missed.map(|(phase, number, op)| (phase, number, op.clone())).collect()
    }

    /// Waits until the daemon has died, and gives the op; none if it has done the work of the phase and lives.
    fn death(&self, phase: Phase, at: &str) -> Result<Option<String>> {
        let (picture, _) = self.expected.get(&phase).context("no expectation")?;
        // The one that is there has an option more than the one in the picture, which names programs without their place.
        let own = self.scene.node.skepd_command_line()?[1..].join(" ");
        let mut look = Instant::now() + LOOK;
        let mut differences = Vec::new();
        let ended = wait_for("the daemon's end, or the work's", WITHIN, || {
            if let Some(status) = self.scene.node.skepd_ended()? {
                return Ok(Some(Some(status)));
            }
            if Instant::now() < look {
                return Ok(None);
            }
            differences = picture.differences(&self.scene.picture()?);
            differences.retain(|line| !line.contains(&own));
            look = Instant::now() + LOOK;
            Ok(differences.is_empty().then_some(None))
        });
        let ended = ended.with_context(|| format!("{phase:?} {at}:\n{}", differences.join("\n")))?;
        ended.map(|_| last_op(&self.scene.node, at)).transpose()
    }

    /// Starts a daemon and gives it the work of a phase.
    fn work(&self, phase: Phase, options: &[&str]) -> Result<()> {
        let node = &self.scene.node;
        if phase == Phase::Replumb {
            for device in self.devices()? {
                node.run(&["ip", "link", "del", &device])?;
            }
        }
        node.spawn_skepd(options)?;
        if let Some(command) = self.command(phase, "--no-wait") {
            wait_for("skepd's API", WITHIN, || {
                Ok((UnixStream::connect(node.socket()).is_ok() || node.skepd_ended()?.is_some()).then_some(()))
            })?;
            // The daemon may die before it answers.
            node.skepctl_output(&command)?;
        }
        Ok(())
    }

    fn up<'a>(&'a self, how: &'a str) -> Vec<&'a str> {
        [&PROJECT[..], &["up", how, "-f", &self.file]].concat()
    }

    /// What people type to have a phase; nobody asks for a repair.
    fn command<'a>(&'a self, phase: Phase, how: &'a str) -> Option<Vec<&'a str>> {
        match phase {
            Phase::Up => Some(self.up(how)),
            Phase::Replumb => None,
            Phase::Down => Some(down(how)),
        }
    }

    /// The host's ends of the environment's veth pairs.
    fn devices(&self) -> Result<Vec<String>> {
        let links: Value = serde_json::from_str(&self.scene.node.run(&["ip", "-j", "link"])?).context("ip -j link")?;
        let alias = format!("{}/{}/", PROJECT[1], PROJECT[3]);
        let ours = links
            .as_array()
            .into_iter()
            .flatten()
            .filter(|link| link["ifalias"].as_str().is_some_and(|it| it.starts_with(&alias)));
        let names: Vec<_> = ours.filter_map(|link| link["ifname"].as_str().map(str::to_owned)).collect();
        ensure!(!names.is_empty(), "no veth pair of {alias} in {links}");
        Ok(names)
    }

    /// Waits until the node is as in the picture.
    fn until(&self, what: &str, picture: &Picture) -> Result<()> {
        let mut differences = Vec::new();
        let same = wait_for(what, WITHIN, || {
            differences = picture.differences(&self.scene.picture()?);
            Ok(differences.is_empty().then_some(()))
        });
        same.with_context(|| differences.join("\n"))
    }

    /// Waits until the store says so, too: that a server answers, it is told by who asks the server.
    fn until_stored(&self, what: &str, stored: &BTreeSet<String>) -> Result<()> {
        let socket = self.scene.node.socket().display().to_string();
        let ask = ["curl", "-sS", "--fail", "--unix-socket", &socket, "http://skepd/v1/snapshot"];
        let mut last = BTreeSet::new();
        let same = wait_for(what, WITHIN, || {
            last = lines(&Snapshot::decode(&self.scene.node.output(&ask)?.stdout)?)?;
            Ok((last == *stored).then_some(()))
        });
        same.with_context(|| changes(stored, &last))
    }

    /// The store with its copies, which would contradict an older one.
    fn copy_state(&self, from: &Path, to: &Path) -> Result<()> {
        let (from, to) = (from.display(), to.display());
        self.scene.node.machine().shell(&format!("rm -rf {to}; cp -a {from} {to}")).map(drop)
    }

    /// What is in the store, a line each; no daemon may run.
    fn stored(&self) -> Result<BTreeSet<String>> {
        lines(&Embedded::read(&self.scene.node.state_directory().join("store.redb"))?)
    }

    fn end(self) -> Result<()> {
        let node = &self.scene.node;
        node.start_skepd()?;
        let (before, _) = self.expected.get(&Phase::Down).context("no expectation")?;
        self.until("the end", before)?;
        self.scene.nothing_lingers()?;
        let Tally { requests, failures, isolation } = self.scene.tally();
        let row = Row {
            fault: format!("skepd dead before or after an op, {} times", self.deaths.get()),
            requests,
            failures,
            repair: Some(self.slowest.get()),
            leaks: Vec::new(),
            isolation,
            broken: failures + isolation > 0,
        };
        println!("{row}");
        row.enter()?;
        ensure!(!row.broken, "{row}");
        self.scene.end()
    }
}

fn down(how: &str) -> Vec<&str> {
    [&PROJECT[..], &["down", how]].concat()
}

/// What is in a store, a line each.
fn lines(store: &Snapshot) -> Result<BTreeSet<String>> {
    // An office is the daemon's that holds it, not the node's.
    let lasting = store.entries.iter().filter(|(key, _)| !key.starts_with("/elections/"));
    let line = |(key, record): (&String, &Record)| {
        let value: Value = serde_json::from_slice(&record.value)
            .with_context(|| format!("{key}: {}", String::from_utf8_lossy(&record.value)))?;
        Ok(format!("{key} {}", timeless(value)))
    };
    lasting.map(line).collect()
}

fn changes(expected: &BTreeSet<String>, now: &BTreeSet<String>) -> String {
    let missing: Vec<&String> = expected.difference(now).collect();
    let new: Vec<&String> = now.difference(expected).collect();
    format!("in the store is missing {missing:#?}, new {new:#?}")
}

/// Without what is another one each time: times, revisions, and container ids.
fn timeless(value: Value) -> Value {
    match value {
        Value::Object(all) => {
            let member = |(name, value): (String, Value)| match (name.as_str(), value) {
                ("container" | "sandbox" | "created" | "since" | "ended", _) => (name, Value::Null),
                // A node's acknowledgement names a revision.
                ("services", Value::Number(_)) => (name, Value::Null),
                ("resting", Value::Object(resting)) => (name, resting.keys().cloned().collect()),
                (_, value) => (name, timeless(value)),
            };
            Value::Object(all.into_iter().map(member).collect())
        }
        Value::Array(all) => all.into_iter().map(timeless).collect(),
        other => other,
    }
}

/// The op that the last daemon died at, from its log.
fn last_op(node: &Node, at: &str) -> Result<String> {
    let log = node.skepd_log()?;
    let line = log.lines().rev().find(|line| line.contains("--abort-at says"));
    let line = line.with_context(|| format!("the daemon died, but not at {at}"))?;
    let line: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
    ensure!(line["message"].as_str().is_some_and(|it| it.contains(at)), "the daemon died, but not at {at}: {line}");
    Ok(line["op"].as_str().context("no op in the line")?.to_owned())
}
