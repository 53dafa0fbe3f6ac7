//! What the databases run from: images of a registry if one answers, else of this distribution's packages.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ::tests::images::{self, Image, Limits, Registry};
use ::tests::{Node, wait_for};
use anyhow::{Context as _, Error, Result};
use serde::Serialize;

use super::screen::Screen;
use super::stage::ENVIRONMENTS;

/// How long a database may need for its first start.
const START: Duration = Duration::from_secs(60);

/// A service that runs from an image which registries have.
#[derive(Debug)]
struct Database {
    service: &'static str,
    product: &'static str,
    /// Its image in a registry.
    pulled: &'static str,
    /// The same made here: it takes the same environment, data directory and signals.
    built: Image,
    /// Asks it for its version, from another container.
    question: &'static [&'static str],
    /// What the version follows, on a line of the answer.
    before: &'static str,
}

static DATABASES: [Database; 2] = [
    Database {
        service: "postgres",
        product: "PostgreSQL",
        // Later ones keep their data elsewhere.
        pulled: "postgres:17-alpine",
        built: Image::Postgres,
        question: &["psql", "-h", "postgres", "-U", "postgres", "-tAc", "SHOW server_version"],
        before: "",
    },
    Database {
        service: "redis",
        product: "Redis",
        pulled: "redis:8-alpine",
        built: Image::Redis,
        question: &["redis-cli", "-h", "redis", "info", "server"],
        before: "redis_version:",
    },
];

impl Database {
    /// The version in an answer, if it has one.
    fn version(&self, answer: &str) -> Option<String> {
        let version = answer.lines().find_map(|line| line.strip_prefix(self.before))?;
        Some(format!("{} {}", self.product, version.trim()))
    }
}

/// Where images come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// `none`.
    Packages,
    /// Packages, if it gives nothing.
    Registry(Registry),
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "none" { Ok(Self::Packages) } else { text.parse().map(Self::Registry) }
    }
}

/// The image of a database, and what it turned out to be.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Provided {
    #[serde(skip)]
    database: &'static Database,
    service: &'static str,
    /// Its name in the Compose file.
    pub(super) image: String,
    #[serde(flatten)]
    origin: Origin,
    /// In how many environments the service runs from this very image.
    environments: usize,
    /// What the running servers say they are.
    version: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "origin", rename_all = "lowercase")]
enum Origin {
    Pulled {
        digest: String,
    },
    Built {
        /// Name and version.
        packages: Vec<String>,
        /// Why nothing was pulled, if that was tried.
        because: Option<String>,
    },
}

impl Provided {
    fn new(database: &'static Database, image: String, origin: Origin) -> Self {
        Self { database, service: database.service, image, origin, environments: 0, version: None }
    }

    /// What stands for it in the Compose file.
    pub(super) fn placeholder(&self) -> String {
        format!("{{{}}}", self.service)
    }

    pub(super) fn as_expected(&self) -> bool {
        self.version.is_some() && self.environments == ENVIRONMENTS.len()
    }
}

impl fmt::Display for Provided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<10} ", self.service)?;
        match &self.origin {
            Origin::Pulled { digest } => write!(f, "pulled {}@{digest}", self.image),
            Origin::Built { packages, .. } => write!(f, "built from {}", packages.join(" ")),
        }
    }
}

/// Pulls or builds the databases' images, builds that of the web service, and gives all to the node's Docker.
///
/// A registry that fails once is not asked again: it would take its time to fail again.
pub(super) fn provide(node: &Node, source: &Source, screen: &mut Screen) -> Result<Vec<Provided>> {
    screen.section("images");
    let mut given_up = None;
    let mut provided = Vec::new();
    let mut built = vec![Image::Tools];
    for database in &DATABASES {
        if let (Source::Registry(registry), None) = (source, &given_up) {
            match pull(node, registry, database, screen) {
                Ok(image) => {
                    screen.line(image.to_string());
                    provided.push(image);
                    continue;
                }
                Err(error) => {
                    let reason = format!("{}: {error:#}", registry.image(database.pulled));
                    screen.line(format!("not pulled, so built: {reason}"));
                    given_up = Some(reason);
                }
            }
        }
        screen.status("building from packages …");
        let packages = images::packages(database.built)?;
        let origin = Origin::Built { packages, because: given_up.clone() };
        let image = Provided::new(database, database.built.tag().to_owned(), origin);
        screen.line(image.to_string());
        provided.push(image);
        built.push(database.built);
    }
    screen.status("loading what was built …");
    node.load(&built)?;
    Ok(provided)
}

fn pull(node: &Node, registry: &Registry, database: &'static Database, screen: &mut Screen) -> Result<Provided> {
    let what = format!("pulling {}", registry.image(database.pulled));
    screen.status(&format!("{what} …"));
    let mut progress = |bytes: u64| screen.progress(&format!("{what}: {} MB …", bytes / 1_000_000));
    let pulled = node.pull(registry, database.pulled, Limits::default(), &mut progress)?;
    Ok(Provided::new(database, pulled.name, Origin::Pulled { digest: pulled.digest }))
}

/// Looks at what the databases run from, and waits until each has said which version it is.
pub(super) fn inspect(node: &Node, provided: &mut [Provided], screen: &mut Screen) -> Result<()> {
    screen.status("asking the databases what they are …");
    for image in provided {
        let Provided { database, service, .. } = *image;
        let id = node.docker(&["image", "inspect", "--format", "{{.Id}}", &image.image])?;
        for (project, environment) in ENVIRONMENTS {
            let replica = node.replica(project, environment, service, 1)?;
            let container = replica.replica().container.as_deref().context("a running replica without a container")?;
            let runs_from = node.docker(&["inspect", "--format", "{{.Image}}", container])?;
            image.environments += usize::from(runs_from == id);
            let web = node.replica(project, environment, "web", 1)?;
            let what = format!("an answer of {}", replica.name());
            image.version = Some(wait_for(&what, START, || Ok(database.version(&web.exec(database.question)?)))?);
        }
        let version = image.version.as_deref().unwrap_or_default();
        let verdict = screen.verdict(image.as_expected());
        screen.line(format!(
            "{service:<10} is {version}, from this image in {} of {} environments   {verdict}",
            image.environments,
            ENVIRONMENTS.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{DATABASES, Origin, Provided};

    #[test]
    fn what_is_used_is_said_in_full() {
        let [_, redis] = &DATABASES;
        let pulled = Origin::Pulled { digest: "sha256:1".to_owned() };
        let pulled = Provided::new(redis, "a.b/redis:8".to_owned(), pulled);
        assert_eq!(pulled.to_string(), "redis      pulled a.b/redis:8@sha256:1");
        let built = Origin::Built { packages: vec!["redis-server 7".to_owned()], because: Some("a.b: no".to_owned()) };
        let built = Provided::new(redis, "redis:latest".to_owned(), built);
        assert_eq!(built.to_string(), "redis      built from redis-server 7");
        let json = serde_json::to_value(&built).expect("JSON");
        assert_eq!((json["origin"].as_str(), json["packages"][0].as_str()), (Some("built"), Some("redis-server 7")));
    }

    #[test]
    fn versions_are_found_in_answers() {
        let [postgres, redis] = &DATABASES;
        assert_eq!(postgres.version("17.6\n").as_deref(), Some("PostgreSQL 17.6"));
        assert_eq!(postgres.version(""), None);
        assert_eq!(
            redis.version("# Server\r\nredis_version:8.2.1\r\nredis_mode:standalone").as_deref(),
            Some("Redis 8.2.1")
        );
        assert_eq!(redis.version("# Server"), None);
    }
}
