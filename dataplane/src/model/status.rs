//! What the agent saw. Written by it alone.

use serde::{Deserialize, Serialize};

use super::name::ReplicaKey;

/// Where a replica stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaState {
    /// Assigned, nothing done yet.
    Pending,
    /// Its image is being pulled.
    Pulling,
    /// Sandbox and network are being made, or a dependency is awaited.
    Starting,
    /// The workload runs and is well.
    Running,
    /// Its process ended just now, and what comes of it is not known yet.
    Ended,
    /// The workload ended by itself with status 0 and is not started again.
    Exited,
    /// It could not be started, or ended with an error and is not (or not yet) started again.
    Failed,
    /// The workload runs, and is not well.
    Unhealthy,
    /// It is being taken away.
    Stopping,
    /// Nothing of it is left.
    Stopped,
    /// Nothing runs: the next run is due later. Said of a service that has a schedule, by no node.
    Scheduled,
}

impl std::fmt::Display for ReplicaState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::Pulling => "pulling",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Failed => "failed",
            Self::Unhealthy => "unhealthy",
            Self::Ended => "ended",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Scheduled => "scheduled",
        })
    }
}

/// A replica as its node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplicaStatus {
    /// Which.
    #[serde(flatten)]
    pub key: ReplicaKey,
    /// Node name.
    pub node: String,
    /// Where it stands.
    pub state: ReplicaState,
    /// Why, for people; the last error of its ops, with the remedy.
    pub message: Option<String>,
    /// Container id of the workload.
    pub container: Option<String>,
    /// Container id of the sandbox.
    pub sandbox: Option<String>,
    /// How often in a row it could not be made.
    #[serde(default)]
    pub attempts: u32,
    /// What its image is, by digest.
    #[serde(default)]
    pub image: Option<String>,
    /// Connections that were cut when it was stopped.
    #[serde(default)]
    pub cut: u32,
    /// The exit status of a workload that ended and is not started again.
    #[serde(default)]
    pub exit: Option<i64>,
}

/// Up to where a node has carried out what the controller decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Ack {
    /// Its maps say what every service's assignment up to this revision of the store says.
    pub services: u64,
    /// Its tunnel is what every other node's [`super::TunnelRecord`] up to this revision of the store says.
    #[serde(default)]
    pub tunnels: u64,
}

impl ReplicaStatus {
    /// Of a replica of which nothing is known.
    pub fn new(key: ReplicaKey, node: &str) -> Self {
        Self {
            key,
            node: node.to_owned(),
            state: ReplicaState::Pending,
            message: None,
            container: None,
            sandbox: None,
            attempts: 0,
            image: None,
            cut: 0,
            exit: None,
        }
    }
}

/// Why an environment can't be as people want it, found while it was assigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Condition {
    /// What stands in the way, naming the thing.
    pub message: String,
    /// The way out.
    pub remedy: String,
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.message, self.remedy)
    }
}
