//! A node with one environment: `web`, which is deployed, and `client`, which asks it and stays.

use std::net::{IpAddr, SocketAddr};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tests::faults::Picture;
use tests::images::Image;
use tests::load::Place;
use tests::{Node, NodeBuilder, wait_for};

/// For what takes seconds; an upper bound for a busy computer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const HTTP: u16 = 8080;
const DATAGRAMS: u16 = 8081;
const PROJECT: [&str; 4] = ["-p", "shop", "-e", "production"];

/// The node, and where its clients are.
pub(crate) struct Stack {
    pub(crate) node: Node,
    pub(crate) place: Place,
    vip4: IpAddr,
    vip6: IpAddr,
}

/// A line of `skepctl history -o json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Row {
    pub(crate) service: String,
    pub(crate) deployment: u32,
    pub(crate) state: String,
    pub(crate) phase: String,
    pub(crate) serves: bool,
    pub(crate) image: String,
    pub(crate) digest: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) cut: u32,
}

/// How a command of skepctl ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        Self { success: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// `web` as it is in this version: three replicas that are well.
pub(crate) fn web(version: u32) -> Value {
    json!({
        "image": Image::Musl.tag(),
        "command": ["web"],
        "environment": { "VERSION": version.to_string() },
        "stop_grace_period": "2s",
        "x-skep": { "type": "web", "drain_timeout": "1s" },
        "deploy": { "replicas": 3, "update_config": { "monitor": "1s" }, "rollback_config": { "monitor": "1s" } },
    })
}

/// A service with some keys changed, at any depth.
pub(crate) fn with(mut service: Value, changes: Value) -> Value {
    change(&mut service, changes);
    service
}

fn change(value: &mut Value, changes: Value) {
    match changes {
        Value::Object(changes) if value.is_object() => {
            for (key, changed) in changes {
                change(&mut value[key], changed);
            }
        }
        changes => *value = changes,
    }
}

impl Stack {
    /// The node with this `web`, which serves.
    pub(crate) fn start(builder: NodeBuilder, web: &Value) -> Result<Self> {
        let node = builder.start()?;
        node.load(&[Image::Musl])?;
        Self::of(node, web)
    }

    /// The same on a node that knows the image.
    pub(crate) fn of(node: Node, web: &Value) -> Result<Self> {
        node.up("shop", "production", &compose(web))?;
        let client = node.replica("shop", "production", "client", 1)?;
        let server = node.replica("shop", "production", "web", 1)?;
        let (vip4, vip6) = (server.vip()?.parse()?, server.vip6()?.parse()?);
        let place = Place::inside(client.netns()?);
        Ok(Self { node, place, vip4, vip6 })
    }

    pub(crate) fn http4(&self) -> SocketAddr {
        (self.vip4, HTTP).into()
    }

    pub(crate) fn http6(&self) -> SocketAddr {
        (self.vip6, HTTP).into()
    }

    pub(crate) fn datagrams(&self) -> SocketAddr {
        (self.vip4, DATAGRAMS).into()
    }

    /// `skepctl <arguments>` about the environment, whatever comes of it.
    pub(crate) fn skepctl(&self, arguments: &[&str]) -> Result<Said> {
        Ok(self.node.skepctl_output(&[&PROJECT, arguments].concat())?.into())
    }

    /// The same; it must succeed.
    pub(crate) fn must(&self, arguments: &[&str]) -> Result<Said> {
        let said = self.skepctl(arguments)?;
        ensure!(said.success, "skepctl {arguments:?}: {said:#?}\n{:#?}", self.history());
        Ok(said)
    }

    /// `skepctl up` with this `web`, whatever comes of it.
    pub(crate) fn try_up(&self, web: &Value) -> Result<Said> {
        let file = self.file(web)?;
        self.skepctl(&["up", "-f", &file])
    }

    /// The same; it must succeed.
    pub(crate) fn up(&self, web: &Value) -> Result<Said> {
        let file = self.file(web)?;
        self.must(&["up", "-f", &file])
    }

    /// The same, without waiting for anything.
    pub(crate) fn send_up(&self, web: &Value) -> Result<Said> {
        let file = self.file(web)?;
        self.skepctl(&["up", "--no-wait", "-f", &file])
    }

    pub(crate) fn file(&self, web: &Value) -> Result<String> {
        self.node.compose_file("shop", "production", &compose(web))
    }

    /// Every deployment of `web` that is remembered, oldest first.
    pub(crate) fn history(&self) -> Result<Vec<Row>> {
        self.rows(&["history", "web"])
    }

    /// `skepctl deployments`: of `web`.
    pub(crate) fn deployments(&self) -> Result<Vec<Row>> {
        let mut rows = self.rows(&["deployments"])?;
        rows.retain(|row| row.service == "web");
        Ok(rows)
    }

    fn rows(&self, command: &[&str]) -> Result<Vec<Row>> {
        let value = self.node.skepctl_json(&[&PROJECT, command].concat())?;
        let mut rows: Vec<Row> = serde_json::from_value(value).context("rows are not as documented")?;
        rows.sort_by_key(|row| row.deployment);
        Ok(rows)
    }

    pub(crate) fn row(&self, deployment: u32) -> Result<Row> {
        let rows = self.history()?;
        let found = rows.iter().find(|row| row.deployment == deployment).cloned();
        found.with_context(|| format!("no deployment {deployment} in {rows:#?}"))
    }

    /// Waits until a deployment is there and as it should be.
    pub(crate) fn until(&self, deployment: u32, what: &str, is: impl Fn(&Row) -> bool) -> Result<Row> {
        let goal = format!("deployment {deployment} {what}");
        wait_for(&goal, PATIENCE, || {
            let rows = self.history()?;
            let found = rows.iter().find(|row| row.deployment == deployment && is(row)).cloned();
            if found.is_none() { Err(anyhow::anyhow!("{rows:#?}")) } else { Ok(found) }
        })
    }

    /// The deployments of which Docker has a container of `web`, running or not.
    pub(crate) fn present(&self) -> Result<Vec<u32>> {
        let names = self.node.docker(&["ps", "--all", "--format", "{{.Names}}"])?;
        let mut all: Vec<u32> = names.lines().filter_map(deployment_of).collect();
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// Makes sure that this version serves, and that nothing is there of any other.
    pub(crate) fn serves_alone(&self, deployment: u32) -> Result<()> {
        let row = self.row(deployment)?;
        ensure!(row.state == "ready" && row.serves, "{row:?}");
        let present = self.present()?;
        ensure!(present == [deployment], "containers of deployments {present:?} instead of {deployment}");
        Ok(())
    }

    /// The node by independent readers.
    pub(crate) fn picture(&self) -> Result<Picture> {
        Picture::take(&self.node)
    }

    /// Waits until the node is as in the picture.
    pub(crate) fn until_as(&self, what: &str, before: &Picture) -> Result<()> {
        let mut differences = Vec::new();
        let same = wait_for(what, PATIENCE, || {
            differences = before.differences(&self.picture()?);
            Ok(differences.is_empty().then_some(()))
        });
        same.with_context(|| differences.join("\n"))
    }
}

/// `skep-<node>-shop-production-web-<deployment>-<replica>[-sandbox]`.
pub(crate) fn deployment_of(container: &str) -> Option<u32> {
    container.split_once("-shop-production-web-")?.1.split('-').next()?.parse().ok()
}

fn compose(web: &Value) -> String {
    let client = json!({ "image": Image::Musl.tag(), "command": ["sleep", "inf"] });
    let mut file = json!({ "services": { "client": client, "web": web } });
    // Declared only where it is used.
    if !web["volumes"].is_null() {
        file["volumes"] = json!({ "data": {} });
    }
    file.to_string()
}
