//! Intent: a resolved compose file, nothing left to interpolate, look up or default.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::file::File;
use super::limits::Limits;
use super::name::EnvironmentKey;
use super::placement::{Placement, Reserved};
use super::rollout::{HealthCheck, Millis, Order, Probe, Rollout};
use super::settings::{Settings, is_usual};

/// Most networks in one environment: a bit each in a u64.
pub const NETWORKS_MAX: usize = 64;

/// What an environment should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EnvironmentSpec {
    /// Which.
    #[serde(flatten)]
    pub key: EnvironmentKey,
    /// By normalised name.
    pub services: BTreeMap<String, ServiceSpec>,
    /// Every network that a service is in, `default` included.
    pub networks: BTreeMap<String, NetworkSpec>,
    /// Named volumes, as the file names them; Docker's name is `<project>_<environment>_<volume>`.
    pub volumes: BTreeSet<String>,
}

/// A network of an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NetworkSpec {
    /// No way out: a service all of whose networks are internal has no egress.
    pub internal: bool,
}

/// What a service is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceType {
    /// Serves HTTP.
    Web,
    /// Keeps data.
    Database,
    /// Keeps data that may be lost.
    Cache,
    /// A worker.
    #[default]
    Service,
}

/// A service of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceSpec {
    /// What it is for.
    #[serde(rename = "type")]
    pub kind: ServiceType,
    /// Image reference as written.
    pub image: String,
    /// Overrides the image's CMD.
    pub command: Option<Vec<String>>,
    /// Overrides the image's ENTRYPOINT.
    pub entrypoint: Option<Vec<String>>,
    /// Variables, `env_file`s already merged in.
    pub environment: BTreeMap<String, String>,
    /// Services of the same environment that come first.
    pub depends_on: BTreeMap<String, DependsOn>,
    /// Networks it is in, never empty, each with its aliases there.
    pub networks: BTreeMap<String, NetworkAttachment>,
    /// Named volumes mounted into it.
    pub volumes: Vec<VolumeMount>,
    /// Files that its containers have, by their paths in there. Left out when there are none: containers are known by a
    /// digest of all this, and those of earlier versions must not be made anew.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, File>,
    /// What Docker does when it exits.
    pub restart: RestartPolicy,
    /// How many replicas.
    pub replicas: u32,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// Working directory in the container.
    pub working_dir: Option<String>,
    /// User (and group) in the container.
    pub user: Option<String>,
    /// Other names for services that it uses → the service: it is told their URLs. That the names resolve is said by
    /// the aliases of those services.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// Clients of this cache must give a password: `x-skep.password`. Databases have one anyway.
    #[serde(default)]
    pub password: bool,
    /// The port it serves on, where somebody must know: `x-skep.port`.
    #[serde(default)]
    pub port: Option<u16>,
    /// Compose's `healthcheck`.
    #[serde(default)]
    pub healthcheck: Option<HealthCheck>,
    /// What the node asks `port`; [`None`]: nothing.
    #[serde(default)]
    pub probe: Option<Probe>,
    /// A replica that is not well so long after its start never will be.
    #[serde(default = "start_timeout")]
    pub start_timeout: Millis,
    /// How an update goes.
    #[serde(default)]
    pub update: Rollout,
    /// How an update that failed is taken back.
    #[serde(default = "Rollout::back")]
    pub rollback: Rollout,
    /// How long connections of a replica that is to stop may take to end by themselves.
    #[serde(default = "drain_timeout")]
    pub drain_timeout: Millis,
    /// What asks it to stop; [`None`]: the image's own, or SIGTERM.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// Between that and SIGKILL.
    #[serde(default = "stop_grace_period")]
    pub stop_grace_period: Millis,
    /// What each replica may take.
    #[serde(default)]
    pub limits: Limits,
    /// What is kept free for each replica. Left out when it is nothing, for the same reason as `files`.
    #[serde(default, skip_serializing_if = "Reserved::is_nothing")]
    pub reserved: Reserved,
    /// Where its replicas may be. Left out when that is anywhere, for the same reason.
    #[serde(default, skip_serializing_if = "Placement::is_anywhere")]
    pub placement: Placement,
    /// How its containers are set up. Left out when nothing is said, for the same reason.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub settings: Settings,
    /// Whether its image is asked for anew where there is one of that name. Left out when nothing is said, for the same
    /// reason.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub pull: PullPolicy,
    /// Where it may go beyond the cluster, and nowhere else: `x-skep.egress`; [`None`]: wherever every service may. Left
    /// out then, for the same reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub egress: Option<BTreeSet<IpNet>>,
    /// Which of its replicas a client is sent to. Left out when nothing is said, for the same reason.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub affinity: Affinity,
    /// Run once with the new image before clients are sent to it.
    #[serde(default)]
    pub release: Option<Vec<String>>,
    /// When to run it, in cron's syntax, for what runs and ends; [`None`]: always.
    #[serde(default)]
    pub schedule: Option<String>,
    /// Raised to have the same deployed anew: after a failure, on request, for a new credential.
    #[serde(default)]
    pub attempt: u32,
    /// It has been stopped, and has so many replicas when it is started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<u32>,
}

/// See [`ServiceSpec::start_timeout`].
const fn start_timeout() -> Millis {
    60_000
}

/// See [`ServiceSpec::drain_timeout`].
const fn drain_timeout() -> Millis {
    30_000
}

/// Docker's own.
const fn stop_grace_period() -> Millis {
    10_000
}

/// When a dependency is satisfied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DependsOn {
    /// Its containers have been started.
    ServiceStarted,
    /// Its containers are healthy (started, for an image without a health check).
    ServiceHealthy,
    /// Its containers have ended with status 0.
    ServiceCompletedSuccessfully,
}

/// A service in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NetworkAttachment {
    /// Further names there, normalised.
    pub aliases: BTreeSet<String>,
}

/// A named volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VolumeMount {
    /// As in [`EnvironmentSpec::volumes`].
    pub volume: String,
    /// Absolute path in the container.
    pub target: String,
    /// Mounted read-only.
    pub read_only: bool,
}

/// When a node asks a registry for an image. A version that has begun keeps the image that it has, by its digest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PullPolicy {
    /// When it has none of that name.
    #[default]
    Missing,
    /// For each version of the service: what the name stands for by now.
    Always,
    /// Never: it is there, or the version fails.
    Never,
}

/// Which replica of a service a client is sent to, of those that serve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// Any, each time.
    #[default]
    None,
    /// The same each time, as long as the same ones serve.
    Client,
}

/// What Docker does when a workload exits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case", tag = "policy", content = "max_retries")]
pub enum RestartPolicy {
    /// Nothing.
    No,
    /// Start it again, always.
    Always,
    /// Start it again unless a person stopped it.
    #[default]
    UnlessStopped,
    /// Start it again when its exit status is not 0, at most so often (0: no limit).
    OnFailure(u32),
}

impl ServiceSpec {
    /// A service of which nothing but the image was said.
    pub fn of_image(image: &str) -> Self {
        Self {
            kind: ServiceType::default(),
            image: image.to_owned(),
            command: None,
            entrypoint: None,
            environment: BTreeMap::new(),
            depends_on: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: Vec::new(),
            files: BTreeMap::new(),
            restart: RestartPolicy::default(),
            replicas: 1,
            labels: BTreeMap::new(),
            working_dir: None,
            user: None,
            links: BTreeMap::new(),
            password: false,
            port: None,
            healthcheck: None,
            probe: None,
            start_timeout: start_timeout(),
            update: Rollout::default(),
            rollback: Rollout::back(),
            drain_timeout: drain_timeout(),
            stop_signal: None,
            stop_grace_period: stop_grace_period(),
            limits: Limits::default(),
            reserved: Reserved::default(),
            placement: Placement::default(),
            settings: Settings::default(),
            pull: PullPolicy::default(),
            egress: None,
            affinity: Affinity::default(),
            release: None,
            schedule: None,
            attempt: 0,
            stopped: None,
        }
    }

    /// Its release task: the same image, variables and networks, run once. It runs beside the version that serves, so
    /// it has no volume that it could write to.
    pub fn release_task(&self) -> Self {
        Self {
            command: self.release.clone(),
            restart: RestartPolicy::No,
            healthcheck: Some(HealthCheck { test: vec!["NONE".into()], ..HealthCheck::default() }),
            probe: None,
            volumes: self.volumes.iter().filter(|mount| mount.read_only).cloned().collect(),
            ..self.clone()
        }
    }

    /// So many replicas are always there: of what has a schedule none, each run of it is one.
    pub fn permanent(&self) -> u32 {
        if self.schedule.is_some() { 0 } else { self.replicas }
    }

    /// Which comes first in an update: two must never write to one volume.
    pub fn order(&self) -> Order {
        if self.writable().is_some() { Order::StopFirst } else { self.update.order }
    }

    /// A volume that it writes to.
    pub fn writable(&self) -> Option<&VolumeMount> {
        self.volumes.iter().find(|mount| !mount.read_only)
    }

    /// Whether running replicas need no change to be this: only their number may differ.
    pub fn same_deployment(&self, other: &Self) -> bool {
        *self == Self { replicas: self.replicas, stopped: self.stopped, ..other.clone() }
    }

    /// Whether the image's entrypoint is left to start `server`, the image's own program, perhaps with options.
    pub fn starts(&self, server: &str) -> bool {
        let first = self.command.as_ref().and_then(|words| words.first());
        self.entrypoint.is_none() && first.is_none_or(|word| word == server || word.starts_with('-'))
    }

    /// Whether the two can reach each other.
    pub fn shares_network(&self, other: &Self) -> bool {
        self.networks.keys().any(|name| other.networks.contains_key(name))
    }

    /// Whether one of its networks leads out, and it may go somewhere there.
    pub fn has_egress(&self, networks: &BTreeMap<String, NetworkSpec>) -> bool {
        let somewhere = self.egress.as_ref().is_none_or(|list| !list.is_empty());
        somewhere && self.networks.keys().any(|name| networks.get(name).is_some_and(|n| !n.internal))
    }
}
