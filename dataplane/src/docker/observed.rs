use super::{Docker, DockerError, Role};
use crate::model::ReplicaKey;

/// Where a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Its process lives.
    Running,
    /// Docker starts it again by its restart policy.
    Restarting,
    /// All its processes are frozen.
    Paused,
    /// Its process ended.
    Exited,
    /// Being removed, or its removal failed.
    Dead,
}

/// What the container's own health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It has none.
    Unchecked,
    /// Not known yet.
    Starting,
    /// Well.
    Healthy,
    /// Not well.
    Unhealthy,
}

/// A container of ours as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedContainer {
    /// Container id.
    pub id: String,
    /// Container name, without Docker's leading slash.
    pub name: String,
    /// Which half of the replica.
    pub role: Role,
    /// Whose.
    pub key: ReplicaKey,
    /// Node name in its labels.
    pub node: String,
    /// Of the service.
    pub deployment: u32,
    /// The digest it was made with.
    pub config: String,
    /// Where it stands.
    pub state: ContainerState,
    /// What its health check says.
    pub health: Health,
    /// Of its main process; `None` when it has none.
    pub pid: Option<u32>,
    /// Of its last process, when that ended.
    pub exit_code: Option<i64>,
    /// Why it could not be started, when that is so.
    pub error: Option<String>,
    /// RFC 3339, as Docker gives it; `None` when it was never started.
    pub started_at: Option<String>,
    /// How often Docker started it again.
    pub restarts: u32,
    /// Container id of the sandbox whose network namespace it shares; a sandbox has none.
    pub sandbox: Option<String>,
}

impl Docker {
    /// Every container of this node, running or not, by its labels.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], [`DockerError::Request`].
    pub async fn list(&self, node: &str) -> Result<Vec<ObservedContainer>, DockerError> {
        let _ = node;
        unimplemented!()
    }

    /// One container; `None` when there is none of that id or name, or it is not Skep's.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], [`DockerError::Request`].
    pub async fn inspect(&self, container: &str) -> Result<Option<ObservedContainer>, DockerError> {
        let _ = container;
        unimplemented!()
    }
}
