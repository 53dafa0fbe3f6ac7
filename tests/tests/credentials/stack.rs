//! One node for all tests here, an environment for each.

use std::collections::BTreeMap;
use std::process::Output;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use tests::images::{Database, Image};
use tests::{Container, Node, wait_for};

/// For a database that is made, on a busy computer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
pub(crate) const PROJECT: &str = "shop";
const MARIADB: &str = include_str!("mariadb.py");

/// Statics are never dropped; the machine ends with this process all the same.
static NODE: LazyLock<Result<Node, String>> = LazyLock::new(|| start().map_err(|error| format!("{error:#}")));

fn start() -> Result<Node> {
    // What Skep logs at most.
    let node = Node::builder().log("trace").start()?;
    let servers = Database::ALL.map(Image::Database);
    node.load(&[&[Image::Clients], servers.as_slice()].concat())?;
    // Nobody packages a server: it is about what it would be started with.
    node.docker(&["tag", Image::Clients.tag(), "mongo:8"])?;
    Ok(node)
}

/// An environment with real databases.
pub(crate) struct Stack {
    pub(crate) node: &'static Node,
    pub(crate) environment: &'static str,
}

impl Stack {
    /// The environment with these services, and volumes for their data.
    pub(crate) fn up(environment: &'static str, services: &Value) -> Result<Self> {
        let node = NODE.as_ref().map_err(|error| anyhow!("the node: {error}"))?;
        let stack = Self { node, environment };
        stack.up_again(services)?;
        Ok(stack)
    }

    pub(crate) fn up_again(&self, services: &Value) -> Result<String> {
        self.node.up(PROJECT, self.environment, &compose(services))
    }

    /// `skepctl <arguments>` about the environment; it must succeed.
    pub(crate) fn skepctl(&self, arguments: &[&str]) -> Result<String> {
        self.node.skepctl(&[&["-p", PROJECT, "-e", self.environment], arguments].concat())
    }

    /// The same with something to read, whatever comes of it.
    pub(crate) fn skepctl_reading(&self, input: &str, arguments: &[&str]) -> Result<Output> {
        let line = self.node.skepctl_line(&[&["-p", PROJECT, "-e", self.environment], arguments].concat())?;
        let file = self.node.machine().directory().join(format!("{}.input", self.environment));
        std::fs::write(&file, input)?;
        let file = file.display().to_string();
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        let shell = ["sh", "-c", "file=$1; shift; exec \"$@\" <\"$file\"", "sh", &file];
        self.node.output(&[shell.as_slice(), words.as_slice()].concat())
    }

    pub(crate) fn replica(&self, service: &str) -> Result<Container<'static>> {
        self.node.replica(PROJECT, self.environment, service, 1)
    }

    /// The variables of a service's container, as Docker has them: the only place where they are in clear.
    pub(crate) fn variables(&self, service: &str) -> Result<BTreeMap<String, String>> {
        let replica = self.replica(service)?;
        let id = replica.replica().container.clone().context("no container")?;
        let text = self.node.docker(&["inspect", "--format", "{{json .Config.Env}}", &id])?;
        let lines: Vec<String> = serde_json::from_str(&text)?;
        let pairs = lines.iter().filter_map(|line| line.split_once('='));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    pub(crate) fn variable(&self, service: &str, name: &str) -> Result<String> {
        let mut variables = self.variables(service)?;
        variables.remove(name).with_context(|| format!("{service} has no {name}, but {:?}", variables.keys()))
    }

    /// What a shell in `service` says, with the variables of that service.
    pub(crate) fn sh(&self, service: &str, script: &str) -> Result<String> {
        self.replica(service)?.exec(&["sh", "-c", script])
    }

    /// The same, until it succeeds: a server may be starting.
    pub(crate) fn patiently(&self, service: &str, script: &str) -> Result<String> {
        wait_for(&format!("{script:?} in {service}"), PATIENCE, || self.sh(service, script).map(Some))
    }

    /// Makes sure that a shell in `service` fails, and says this.
    pub(crate) fn refused(&self, service: &str, script: &str, says: &str) -> Result<()> {
        let output = self.replica(service)?.exec_output(&["sh", "-c", script])?;
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        ensure!(
            said.contains(says),
            "{script:?} in {service} was not refused with {says:?}: {:?} {said}",
            output.status
        );
        Ok(())
    }

    /// What MariaDB answers to whom `MYSQL_URL` says, or with another password.
    pub(crate) fn mariadb(&self, service: &str, password: Option<&str>, query: &str) -> Result<String> {
        let replica = self.replica(service)?;
        let environment: Vec<String> = password.iter().map(|password| format!("OTHER_PASSWORD={password}")).collect();
        let words = ["env"].into_iter().chain(environment.iter().map(String::as_str));
        replica.exec(&words.chain(["python3", "-c", MARIADB, "-e", query]).collect::<Vec<_>>())
    }

    /// Makes sure that MariaDB lets nobody in by this password.
    pub(crate) fn mariadb_refuses(&self, service: &str, password: &str) -> Result<()> {
        match self.mariadb(service, Some(password), "SELECT 1") {
            Ok(answer) => bail!("MariaDB answers {answer} to whom {password:?} lets in"),
            Err(refused) => {
                let said = format!("{refused:#}");
                ensure!(said.contains("Access denied"), "{said}");
                Ok(())
            }
        }
    }
}

/// A service that is asked to run clients.
pub(crate) fn shell() -> Value {
    json!({
        "image": Image::Clients.tag(),
        "command": ["sleep", "inf"],
        "stop_signal": "SIGKILL",
        "x-skep": { "drain_timeout": "1s" },
        "deploy": { "update_config": { "monitor": "0s" } },
    })
}

/// A database, with its data in a volume of this name.
pub(crate) fn database(database: Database, volume: &str) -> Value {
    let data = match database {
        Database::Postgres => "/var/lib/postgresql/data",
        Database::Mariadb => "/var/lib/mysql",
        Database::Redis | Database::Valkey => "/data",
    };
    json!({ "image": Image::Database(database).tag(), "volumes": [format!("{volume}:{data}")] })
}

/// A cache that asks for a password.
pub(crate) fn cache(database: Database) -> Value {
    json!({
        "image": Image::Database(database).tag(),
        "x-skep": { "password": true, "drain_timeout": "1s" },
        "deploy": { "update_config": { "monitor": "0s" } },
    })
}

/// JSON is YAML.
pub(crate) fn compose(services: &Value) -> String {
    let mounts = services.as_object().into_iter().flatten().filter_map(|(_, service)| service["volumes"][0].as_str());
    let volumes = mounts.filter_map(|mount| mount.split_once(':')).map(|(volume, _)| (volume.to_owned(), json!({})));
    json!({ "services": services, "volumes": volumes.collect::<serde_json::Map<_, _>>() })
        .to_string()
        .replace('$', "$$")
}
