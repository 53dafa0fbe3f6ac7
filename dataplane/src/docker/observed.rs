use std::collections::BTreeSet;
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary, HealthStatusEnum};
use bollard::query_parameters::ListContainersOptions;
use futures_util::{StreamExt, TryStreamExt};

use super::error::is_absent;
use super::labels::{IMAGE, Labels, RECORD, of_node};
use super::{Docker, DockerError, Role};
use crate::model::ReplicaKey;
use crate::model::record::ReplicaRecord;

/// How many containers are asked about at a time.
const INSPECTIONS: usize = 8;

/// A container is described from memory: an engine that takes longer is not merely busy.
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);

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
    /// The kernel killed it, or a process of its, because it needed more memory than it may have.
    pub out_of_memory: bool,
    /// What it said last, when it failed.
    pub last_words: Option<String>,
    /// Why it could not be started, when that is so.
    pub error: Option<String>,
    /// RFC 3339, as Docker gives it; `None` when it was never started.
    pub started_at: Option<String>,
    /// How often Docker started it again.
    pub restarts: u32,
    /// Container id of the sandbox whose network namespace it shares; a sandbox has none.
    pub sandbox: Option<String>,
    /// What the image of a workload was when it was made, by digest.
    pub image: Option<String>,
}

impl ObservedContainer {
    /// Whether its process ended as one does that failed.
    fn has_failed(&self) -> bool {
        let has_ended = matches!(self.state, ContainerState::Restarting | ContainerState::Exited);
        self.role == Role::Workload && has_ended && self.exit_code.is_some_and(|status| status != 0)
    }
}

impl Docker {
    /// Every container of this node, running or not, by its labels.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], [`DockerError::Request`].
    pub async fn list(&self, node: &str) -> Result<Vec<ObservedContainer>, DockerError> {
        let summaries = self.summaries(node).await?;
        // A summary lacks pid, exit code and restarts.
        let details = summaries.into_iter().filter_map(|summary| summary.id);
        let details = details.map(|id| async move { self.inspect(&id).await });
        let mut details = futures_util::stream::iter(details).buffered(INSPECTIONS);
        let mut found = Vec::new();
        while let Some(container) = details.try_next().await? {
            found.extend(container);
        }
        Ok(found)
    }

    /// One container; `None` when there is none of that id or name, or it is not Skep's.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], [`DockerError::Request`].
    pub async fn inspect(&self, container: &str) -> Result<Option<ObservedContainer>, DockerError> {
        match self.client().await?.with_timeout(LOOK_TIMEOUT).inspect_container(container, None).await {
            Ok(response) => {
                let variables = response.config.as_ref().and_then(|config| config.env.clone()).unwrap_or_default();
                let mut found = observed(response);
                if let Some(container) = found.as_mut().filter(|container| container.has_failed()) {
                    container.last_words = self.last_words(&container.id, &variables).await;
                }
                Ok(found)
            }
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.failed("inspect container", container)(error)),
        }
    }
}

/// A container as far as a store that lost it can be told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedContainer {
    /// Whose.
    pub key: ReplicaKey,
    /// What it carries; [`None`] for a sandbox.
    pub record: Option<ReplicaRecord>,
}

impl Docker {
    /// The replicas of which this node has a container, by their labels.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], [`DockerError::Request`].
    pub async fn keys(&self, node: &str) -> Result<BTreeSet<ReplicaKey>, DockerError> {
        let summaries = self.summaries(node).await?;
        Ok(summaries.into_iter().filter_map(|summary| Some(Labels::parse(&summary.labels?)?.key)).collect())
    }

    /// Every container of this node with the record it carries.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], [`DockerError::Request`].
    pub async fn records(&self, node: &str) -> Result<Vec<RecordedContainer>, DockerError> {
        let mut found = Vec::new();
        for id in self.summaries(node).await?.into_iter().filter_map(|summary| summary.id) {
            match self.client().await?.with_timeout(LOOK_TIMEOUT).inspect_container(&id, None).await {
                Ok(response) => found.extend(recorded(response)),
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(self.failed("inspect container", &id)(error)),
            }
        }
        Ok(found)
    }

    async fn summaries(&self, node: &str) -> Result<Vec<ContainerSummary>, DockerError> {
        let options =
            ListContainersOptions { all: true, filters: Some(of_node(node)), ..ListContainersOptions::default() };
        let client = self.client().await?.with_timeout(LOOK_TIMEOUT);
        client.list_containers(Some(options)).await.map_err(self.failed("list", "containers"))
    }
}

fn recorded(response: ContainerInspectResponse) -> Option<RecordedContainer> {
    let config = response.config?;
    let labels = config.labels?;
    let record = labels.get(RECORD).and_then(|label| ReplicaRecord::from_label(label, &config.env.unwrap_or_default()));
    Some(RecordedContainer { key: Labels::parse(&labels)?.key, record })
}

fn observed(response: ContainerInspectResponse) -> Option<ObservedContainer> {
    let all = response.config?.labels?;
    let labels = Labels::parse(&all)?;
    let state = response.state?;
    // The engine writes the year 1 for "never".
    let started_at = state.started_at.clone().filter(|time| !time.starts_with("0001-"));
    let network_mode = response.host_config.and_then(|host| host.network_mode);
    Some(ObservedContainer {
        id: response.id?,
        name: response.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        role: labels.role,
        key: labels.key,
        node: labels.node,
        config: labels.config,
        state: container_state(&state),
        health: health(&state),
        pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
        // One that is started again counts as running meanwhile.
        exit_code: state
            .exit_code
            .filter(|_| (state.running != Some(true) || state.restarting == Some(true)) && started_at.is_some()),
        out_of_memory: state.oom_killed == Some(true),
        last_words: None,
        error: state.error.filter(|error| !error.is_empty()),
        started_at,
        restarts: response.restart_count.and_then(|count| count.try_into().ok()).unwrap_or_default(),
        image: all.get(IMAGE).cloned(),
        sandbox: network_mode.and_then(|mode| mode.strip_prefix("container:").map(str::to_owned)),
    })
}

fn container_state(state: &bollard::models::ContainerState) -> ContainerState {
    match state.status {
        Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::STOPPING) => ContainerState::Running,
        Some(ContainerStateStatusEnum::RESTARTING) => ContainerState::Restarting,
        Some(ContainerStateStatusEnum::PAUSED) => ContainerState::Paused,
        Some(ContainerStateStatusEnum::EXITED) => ContainerState::Exited,
        Some(ContainerStateStatusEnum::DEAD | ContainerStateStatusEnum::REMOVING) => ContainerState::Dead,
        Some(ContainerStateStatusEnum::CREATED | ContainerStateStatusEnum::EMPTY) | None => ContainerState::Created,
    }
}

fn health(state: &bollard::models::ContainerState) -> Health {
    match state.health.as_ref().and_then(|health| health.status) {
        Some(HealthStatusEnum::STARTING) => Health::Starting,
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
        Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY) | None => Health::Unchecked,
    }
}

#[cfg(test)]
mod tests {
    use super::super::labels::example;
    use super::*;

    fn inspected(state: serde_json::Value) -> Option<ObservedContainer> {
        let labels = example(Role::Workload).into_map();
        let response = serde_json::json!({
            "Id": "c1", "Name": "/api", "RestartCount": 2, "State": state,
            "Config": { "Labels": labels }, "HostConfig": { "NetworkMode": "container:s1" },
        });
        observed(serde_json::from_value(response).unwrap())
    }

    #[test]
    fn a_running_container_has_a_pid_and_no_exit_code() {
        let state = serde_json::json!({
            "Status": "running", "Running": true, "Pid": 7, "ExitCode": 0, "Error": "",
            "StartedAt": "2026-11-20T18:00:00Z", "Health": { "Status": "unhealthy" },
        });
        let container = inspected(state).unwrap();
        assert_eq!((container.state, container.health), (ContainerState::Running, Health::Unhealthy));
        assert_eq!((container.pid, container.exit_code, container.error), (Some(7), None, None));
        assert_eq!((container.name.as_str(), container.restarts), ("api", 2));
        assert_eq!(container.sandbox.as_deref(), Some("s1"));
    }

    #[test]
    fn a_container_that_is_started_again_has_the_exit_code_of_its_last_life() {
        let state = serde_json::json!({
            "Status": "restarting", "Running": true, "Restarting": true, "Pid": 0, "ExitCode": 3, "Error": "",
            "StartedAt": "2026-11-20T18:00:00Z",
        });
        let container = inspected(state).unwrap();
        assert_eq!((container.state, container.exit_code), (ContainerState::Restarting, Some(3)));
    }

    #[test]
    fn a_container_that_never_ran_has_no_exit_code() {
        let state = serde_json::json!({
            "Status": "created", "Running": false, "Pid": 0, "ExitCode": 0, "Error": "no such file",
            "StartedAt": "0001-01-01T00:00:00Z",
        });
        let container = inspected(state).unwrap();
        assert_eq!((container.state, container.health), (ContainerState::Created, Health::Unchecked));
        assert_eq!((container.pid, container.exit_code, container.started_at), (None, None, None));
        assert_eq!(container.error.as_deref(), Some("no such file"));
    }
}
