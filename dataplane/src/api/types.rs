//! Bodies of the API, shared with its clients.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::docker::{Command, Size};
use crate::host::Finding;
pub use crate::host::Level;
use crate::model::rollout::Order;
use crate::model::{
    Deployment, DeploymentState, EnvironmentKey, Phase, ReplicaKey, ReplicaState, ReplicaStatus, ServiceKey,
};
pub use crate::monitor::{Dropped, MonitorEvent, Traffic};

mod detail;
mod log;
mod node;
mod prune;
mod run;

pub use detail::{PathRow, ServiceDetail};
pub use log::{LogEvent, LogRow};
pub use node::{Invite, Invited, Labels, NodeRow, NodeState, Roles};
pub use prune::{Prunable, Prune, PruneRow};
pub use run::RunRow;

/// Body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// What went wrong, in one line that names the thing.
    pub error: String,
    /// The way out.
    pub remedy: String,
}

/// Answer to `PUT` and `DELETE` of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Accepted {
    /// Which.
    #[serde(flatten)]
    pub key: EnvironmentKey,
    /// Revision of the store that holds the intent; with a dry run, the one the plan was made on.
    pub revision: u64,
    /// With `dry_run=true`: the operations, exactly as they would be executed and logged. Nothing was changed.
    pub plan: Option<Vec<String>>,
    /// Of an environment that was taken away: what it stored, and what stays.
    #[serde(default)]
    pub kept: Option<Kept>,
}

/// What an environment has stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Kept {
    /// Its named volumes.
    pub volumes: Vec<String>,
    /// Services with generated credentials.
    pub credentials: Vec<String>,
}

impl Kept {
    /// Whether that is nothing.
    pub fn is_empty(&self) -> bool {
        self.volumes.is_empty() && self.credentials.is_empty()
    }
}

/// Body of `POST …/deploy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Deploy {
    /// The image to deploy; [`None`]: the same again.
    pub image: Option<String>,
}

/// Body of `POST …/rollback`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Rollback {
    /// The version to go back to; [`None`]: the last one that served before the one that does.
    pub to: Option<u32>,
}

/// Body of `POST …/scale`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Scale {
    /// So many replicas.
    pub replicas: u32,
}

/// Body of `POST …/stop`, `…/start`, `…/restart` and `…/remove`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Services {
    /// Which; none named: all of the environment, but for `…/remove`.
    #[serde(default)]
    pub services: Vec<String>,
}

/// Body of `POST …/rotate`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Rotate {
    /// The new password; [`None`]: a generated one.
    pub password: Option<String>,
}

/// Body of `PUT /v1/registries/<registry>`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Login {
    /// Whom the registry knows.
    pub user: String,
    /// A password or a token.
    pub password: String,
}

/// A registry that images are pulled from as a user whom it knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RegistryRow {
    /// `host` or `host:port`.
    pub registry: String,
    /// Whom it knows.
    pub user: String,
    /// When the login was given: seconds since the epoch.
    pub made: u64,
}

/// The credentials of a service, without their values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecretRow {
    /// Whose.
    pub project: String,
    /// Whose.
    pub environment: String,
    /// Whose.
    pub service: String,
    /// 1, and one more with each change.
    pub version: u32,
    /// When this version was made: seconds since the epoch.
    pub made: u64,
    /// The volume whose data they open; as long as it is there, they are.
    pub volume: Option<String>,
    /// A change was begun, and has not come to its end.
    pub changing: bool,
    /// Who gets them → in which variables.
    pub consumers: BTreeMap<String, Vec<String>>,
}

/// A version of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeploymentRow {
    /// Whose.
    pub project: String,
    /// Whose.
    pub environment: String,
    /// Whose.
    pub service: String,
    /// 1, 2, 3 …
    pub deployment: u32,
    /// Where it stands.
    pub state: DeploymentState,
    /// What is being done about it.
    pub phase: Phase,
    /// Whether clients are sent to it.
    pub serves: bool,
    /// The image as it was written.
    pub image: String,
    /// What that was, by digest.
    pub digest: Option<String>,
    /// Whether the new replicas come before the old ones go.
    pub order: Order,
    /// Why it failed, for people.
    pub reason: Option<String>,
    /// When it was asked for, in milliseconds since the epoch.
    pub created: u64,
    /// When it came to its end, in milliseconds since the epoch.
    pub ended: Option<u64>,
    /// Connections that were cut when its replicas were stopped.
    pub cut: u32,
}

/// A replica: what is assigned, joined with what its node sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplicaRow {
    /// Whose.
    pub project: String,
    /// Whose.
    pub environment: String,
    /// Whose.
    pub service: String,
    /// 1, 2, 3 …
    pub replica: u32,
    /// Version of the service; 0: there for one command, and of none.
    pub deployment: u32,
    /// Where it stands.
    pub state: ReplicaState,
    /// Why, for people.
    pub message: Option<String>,
    /// Where it runs.
    pub node: String,
    /// IPv4 address.
    pub address: String,
    /// IPv6 address.
    pub address6: String,
    /// The service's IPv4 VIP.
    pub vip: String,
    /// The service's IPv6 VIP.
    pub vip6: String,
    /// What it runs.
    pub image: String,
    /// Container id of the workload.
    pub container: Option<String>,
    /// Container id of the sandbox.
    pub sandbox: Option<String>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceRow {
    /// Whose.
    pub project: String,
    /// Whose.
    pub environment: String,
    /// Its name.
    pub service: String,
    /// The deployment that serves.
    pub deployment: u32,
    /// IPv4 VIP.
    pub vip: String,
    /// IPv6 VIP.
    pub vip6: String,
    /// What it runs.
    pub image: String,
    /// Replicas wanted.
    pub replicas: u32,
    /// Replicas that serve.
    pub running: u32,
    /// Networks it is in.
    pub networks: Vec<String>,
    /// Identity: environment id and service id, as the maps have it.
    pub env_id: u32,
    /// See `env_id`.
    pub service_id: u32,
}

/// The network presence of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EndpointRow {
    /// Whose.
    pub project: String,
    /// Whose.
    pub environment: String,
    /// Whose.
    pub service: String,
    /// 1, 2, 3 …
    pub replica: u32,
    /// Where it is.
    pub node: String,
    /// IPv4 address.
    pub address: String,
    /// IPv6 address.
    pub address6: String,
    /// Host end of its veth.
    pub interface: String,
    /// MAC of the container's end.
    pub mac: String,
    /// Networks it is in.
    pub networks: Vec<String>,
    /// May it reach the internet.
    pub egress: bool,
    /// Whether the service's VIP may lead to it.
    pub backend: bool,
}

/// A name that resolves in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NameRow {
    /// Where it holds.
    pub project: String,
    /// Where it holds.
    pub environment: String,
    /// The name, without a final dot.
    pub name: String,
    /// The service it means.
    pub service: String,
    /// Answer to A.
    pub vip: String,
    /// Answer to AAAA.
    pub vip6: String,
    /// Networks in which it holds.
    pub networks: Vec<String>,
}

/// A line of the stream `GET /v1/environments/{project}/{environment}/watch` (one JSON object a line).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum WatchEvent {
    /// A replica's status as it is now: all of them first, then each change.
    Replica(ReplicaStatus),
    /// A deployment as it is now: the last of each service first, then each change.
    Deployment(DeploymentRow),
    /// The replica is gone and its addresses are released.
    Gone(ReplicaKey),
    /// What is wanted has been decided and carried out, or has failed; the stream ends. A stream that ends without
    /// this line was cut.
    Done {
        /// Replicas that do not serve → why. Empty: all is well.
        failed: BTreeMap<String, String>,
    },
}

/// One line of `check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CheckRow {
    /// How grave.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What to do about it; empty when there is nothing to do.
    pub remedy: String,
}

impl From<Finding> for CheckRow {
    fn from(finding: Finding) -> Self {
        Self { level: finding.level, what: finding.what, remedy: finding.remedy.unwrap_or_default() }
    }
}

/// Answer to `GET /v1/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Version {
    /// Of skepd.
    pub version: String,
    /// Layout of the maps.
    pub abi: u32,
    /// Node name.
    pub node: String,
    /// Where the maps are pinned.
    pub bpffs: String,
    /// Process id of skepd.
    pub pid: u32,
}

/// A line of the stream `GET /v1/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HistoryEvent {
    /// When, in milliseconds since the epoch.
    pub time_ms: u64,
    /// Whose.
    pub project: String,
    /// Whose.
    pub environment: String,
    /// Whose.
    pub service: String,
    /// Which version.
    pub deployment: u32,
    /// Which replica of it, or run; [`None`]: the version as a whole.
    pub replica: Option<u32>,
    /// Where it stands now: a state, and of a version on its way what is being done.
    pub state: String,
    /// Why, for people.
    pub message: Option<String>,
}

impl HistoryEvent {
    /// A version, as it is now.
    pub fn of_deployment(deployment: &Deployment, time_ms: u64) -> Self {
        let ServiceKey { environment, service } = &deployment.key.service;
        Self {
            time_ms,
            project: environment.project.clone(),
            environment: environment.environment.clone(),
            service: service.clone(),
            deployment: deployment.key.deployment,
            replica: None,
            state: match deployment.state {
                DeploymentState::Deploying => deployment.phase.to_string(),
                state => state.to_string(),
            },
            message: deployment.reason.clone(),
        }
    }

    /// A replica, as its node tells.
    pub fn of_replica(status: &ReplicaStatus, time_ms: u64) -> Self {
        let ServiceKey { environment, service } = &status.key.service;
        Self {
            time_ms,
            project: environment.project.clone(),
            environment: environment.environment.clone(),
            service: service.clone(),
            deployment: status.key.deployment,
            replica: Some(status.key.replica),
            state: status.state.to_string(),
            message: status.message.clone(),
        }
    }

    /// Of which environment it tells.
    pub fn key(&self) -> EnvironmentKey {
        EnvironmentKey { project: self.project.clone(), environment: self.environment.clone() }
    }
}
