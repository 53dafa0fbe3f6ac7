//! Values are in the containers' environments, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};
use tests::images::Database;
use tests::wait_for;

use crate::stack::{PATIENCE, PROJECT, Stack, cache, compose, database, shell};

/// A password that a person chose.
const CHOSEN: &str = "correct-horse-battery-staple";

/// Every command line that there was on this computer.
struct CommandLines {
    over: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<Vec<u8>>>,
}

impl CommandLines {
    fn watch() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !flag.load(Ordering::SeqCst) {
                let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
                seen.extend(processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok()));
                // One of a process that lasts a millisecond is missed; databases' clients last longer.
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            seen
        });
        Self { over, thread }
    }

    fn end(self) -> Result<Vec<u8>> {
        self.over.store(true, Ordering::SeqCst);
        let seen = self.thread.join().map_err(|_| anyhow!("the watch over command lines ended"))?;
        Ok(seen.into_iter().collect::<Vec<_>>().join(&b'\n'))
    }
}

/// What is not to hold a value, by where it is from.
#[derive(Default)]
struct Places(BTreeMap<String, Vec<u8>>);

impl Places {
    fn add(&mut self, place: impl Into<String>, octets: impl Into<Vec<u8>>) {
        self.0.entry(place.into()).or_default().extend(octets.into());
    }

    fn said(&mut self, place: &str, output: Output) {
        self.add(format!("what {place} prints"), output.stdout);
        self.add(format!("what {place} complains of"), output.stderr);
    }

    fn files(&mut self, directory: &Path) -> Result<()> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let kind = fs::symlink_metadata(&path)?.file_type();
            if kind.is_dir() {
                self.files(&path)?;
            } else if kind.is_file() {
                self.add(path.display().to_string(), fs::read(&path)?);
            }
        }
        Ok(())
    }

    fn with(&self, value: &str) -> Vec<&str> {
        let has = |octets: &[u8]| octets.windows(value.len()).any(|window| window == value.as_bytes());
        self.0.iter().filter(|(_, octets)| has(octets)).map(|(place, _)| place.as_str()).collect()
    }
}

/// The values of the environment's variables that nobody may know.
fn values(stack: &Stack) -> Result<BTreeSet<String>> {
    let mut values = BTreeSet::new();
    for service in ["postgres", "mariadb", "valkey", "mongo", "shell"] {
        for (name, value) in stack.variables(service)? {
            if name.ends_with("PASSWORD") || name == "REDISCLI_AUTH" {
                values.insert(value);
            } else if let Some((_, rest)) = value.split_once("://") {
                let password = rest.split_once('@').and_then(|(user, _)| user.split_once(':'));
                values.extend(password.map(|(_, password)| password.to_owned()));
            }
        }
    }
    Ok(values)
}

fn services() -> Value {
    json!({
        "postgres": database(Database::Postgres, "postgres"),
        "mariadb": database(Database::Mariadb, "mariadb"),
        "valkey": cache(Database::Valkey),
        "mongo": { "image": "mongo:8", "command": ["sleep", "inf"], "stop_signal": "SIGKILL" },
        "shell": shell(),
    })
}

#[test]
fn a_value_is_in_the_environment_of_containers_and_nowhere_else() -> Result<()> {
    let mut places = Places::default();
    let lines = CommandLines::watch();
    let stack = Stack::up("silent", &services())?;
    wait_for("MariaDB's answer", PATIENCE, || stack.mariadb("shell", None, "SELECT 1").map(Some))?;
    let mut secret = values(&stack)?;
    ensure!(secret.len() == 5, "two of MariaDB's and one of each other: {}", secret.len());
    let skepctl = |arguments: &[&str]| {
        stack.node.skepctl_output(&[&["-p", PROJECT, "-e", stack.environment], arguments].concat())
    };
    refusals(&stack, &mut places)?;
    for (service, wait) in [("postgres", "--no-wait"), ("mariadb", "--no-wait"), ("valkey", "--wait")] {
        places.said("rotate --dry-run", skepctl(&["secrets", "rotate", service, "--dry-run"])?);
        let output = skepctl(&["secrets", "rotate", service, wait])?;
        ensure!(output.status.success(), "{output:?}");
        places.said("rotate", output);
    }
    secret.extend(values(&stack)?);
    ensure!(secret.len() == 8, "three more: {}", secret.len());
    places.said("set", stack.skepctl_reading(CHOSEN, &["secrets", "set", "postgres"])?);
    ensure!(stack.variable("shell", "DATABASE_URL")?.contains(CHOSEN), "it was not set");
    secret.insert(CHOSEN.to_owned());
    let mut changed = services();
    changed["shell"]["environment"] = json!({ "NEW": "1" });
    let file = stack.node.compose_file("shop", "silent", &compose(&changed))?;
    for command in [
        &["ps"][..],
        &["services"],
        &["endpoints"],
        &["names"],
        &["history"],
        &["inspect", "postgres"],
        &["inspect", "shell"],
        &["deployments"],
        &["events"],
        &["secrets", "list"],
        &["check"],
        &["why", "shell", "postgres:5432"],
        &["up", "--dry-run", "-f", &file],
        &["down", "--dry-run"],
    ] {
        places.said(&format!("{command:?}"), skepctl(command)?);
        places.said(&format!("{command:?} -o json"), skepctl(&[&["-o", "json"], command].concat())?);
    }
    places.add("skepd's log", stack.node.skepd_log()?);
    places.add("dockerd's log", stack.node.dockerd_log()?);
    docker(&stack, &mut places)?;
    places.files(&stack.node.state_directory())?;
    places.files(&stack.node.run_directory())?;
    places.add("command lines", lines.end()?);
    for value in &secret {
        let found = places.with(value);
        ensure!(found.is_empty(), "{value} is in {found:?}");
    }
    // What looks finds what is there: names are no secret.
    let user = stack.variable("mariadb", "MARIADB_USER")?;
    let found = places.with(&user);
    ensure!(found.contains(&"command lines"), "nobody was seen to tell {user} the new password: {found:?}");
    ensure!(places.with("Made credentials").contains(&"skepd's log") && !places.with("postgres:17").is_empty());
    Ok(())
}

/// What goes wrong is told without the value.
fn refusals(stack: &Stack, places: &mut Places) -> Result<()> {
    let long = CHOSEN.repeat(10);
    for (service, password, says) in [
        ("postgres", long.as_str(), "choose another one"),
        ("nowhere", CHOSEN, "nowhere"),
        ("shell", CHOSEN, "not Skep's"),
        // There is no shell of MongoDB's in this image.
        ("mongo", CHOSEN, "does not say whether"),
    ] {
        let output = stack.skepctl_reading(password, &["secrets", "set", service])?;
        ensure!(!output.status.success(), "{service} took {password}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(told.contains(says), "{service}: {told}");
        places.said("a refusal", output);
    }
    Ok(())
}

/// Whatever Docker tells of a container but its environment.
fn docker(stack: &Stack, places: &mut Places) -> Result<()> {
    // What serves no more is drained for a while.
    let services = services().as_object().context("services are a mapping")?.len();
    let replicas = wait_for("one replica of each service", PATIENCE, || {
        let mut replicas = stack.node.replicas()?;
        replicas.retain(|replica| replica.environment == stack.environment);
        Ok((replicas.len() == services).then_some(replicas))
    })?;
    places.add("docker ps", stack.node.docker(&["ps", "--all", "--no-trunc", "--format", "{{json .}}"])?);
    places.add("docker events", stack.node.docker(&["events", "--since=1h", "--until=0s", "--format={{json .}}"])?);
    let own: BTreeSet<String> = replicas.into_iter().flat_map(|it| [it.container, it.sandbox]).flatten().collect();
    let all = stack.node.docker(&["ps", "--all", "--quiet", "--no-trunc"])?;
    let all: BTreeSet<&str> = all.lines().collect();
    ensure!(own.len() == 2 * services && own.iter().all(|id| all.contains(id.as_str())), "{own:?} of {all:?}");
    for id in all {
        let url = stack.node.docker_url();
        let inspected = stack.node.output(&["docker", "--host", &url, "inspect", id])?;
        if !inspected.status.success() && !own.contains(id) {
            // Those of other tests come and go.
            continue;
        }
        let mut told: Value = serde_json::from_slice(&inspected.stdout)?;
        let environment = told[0]["Config"].as_object_mut().context("no Config")?.remove("Env");
        ensure!(environment.is_some(), "a container without an environment");
        places.add("docker inspect", told.to_string());
        places.said("docker logs", stack.node.output(&["docker", "--host", &url, "logs", id])?);
    }
    Ok(())
}
