use std::time::Duration;

use bollard::query_parameters::{
    CreateContainerOptions, KillContainerOptions, RemoveContainerOptions, StartContainerOptions, StopContainerOptions,
};

use super::error::{is_absent, refusal};
use super::{Docker, DockerError, SandboxSpec, WorkloadSpec, sandbox_name, workload_name};

/// What the engine needs beyond the grace period to kill and to tell.
const STOP_MARGIN: Duration = Duration::from_secs(60);

impl Docker {
    /// Makes (does not start) a sandbox; returns its id. The pause image must be there.
    ///
    /// # Errors
    /// [`DockerError::NameTaken`], [`DockerError::Image`], [`DockerError::Request`].
    pub async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<String, DockerError> {
        self.create(sandbox_name(&spec.node, &spec.key), spec.body()).await
    }

    /// Makes (does not start) a workload; returns its id. Image and volumes must be there.
    ///
    /// # Errors
    /// [`DockerError::NameTaken`], [`DockerError::Image`], [`DockerError::Request`].
    pub async fn create_workload(&self, spec: &WorkloadSpec) -> Result<String, DockerError> {
        self.create(workload_name(&spec.node, &spec.key), spec.body(&self.log_driver)).await
    }

    async fn create(&self, name: String, body: bollard::models::ContainerCreateBody) -> Result<String, DockerError> {
        let image = body.image.clone().unwrap_or_default();
        let options = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
        match self.client.create_container(Some(options), body).await {
            Ok(response) => Ok(response.id),
            Err(error) => Err(match refusal(&error) {
                Some((409, message)) if message.contains("already in use") => DockerError::NameTaken { name },
                Some((404, message)) => DockerError::Image { image, reason: message.to_owned() },
                _ => self.failed("create container", &name)(error),
            }),
        }
    }

    /// Starts a container; running already is success.
    ///
    /// # Errors
    /// [`DockerError::Start`] with the engine's reason, [`DockerError::NoContainer`].
    pub async fn start(&self, container: &str) -> Result<(), DockerError> {
        match self.client.start_container(container, None::<StartContainerOptions>).await {
            Ok(()) => Ok(()),
            Err(error) => Err(match refusal(&error) {
                Some((404, message)) if message.starts_with("No such container") => {
                    DockerError::NoContainer(container.to_owned())
                }
                Some((_, message)) => {
                    DockerError::Start { container: container.to_owned(), reason: message.trim_end().to_owned() }
                }
                None => self.failed("start container", container)(error),
            }),
        }
    }

    /// Sends the stop signal and, after `grace`, SIGKILL; stopped or gone already is success.
    ///
    /// # Errors
    /// [`DockerError::Request`].
    pub async fn stop(&self, container: &str, grace: Duration) -> Result<(), DockerError> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptions { t: Some(seconds), ..StopContainerOptions::default() };
        // The engine answers when the container has stopped.
        let client = self.client.clone().with_timeout(grace + STOP_MARGIN);
        match client.stop_container(container, Some(options)).await {
            Err(error) if is_absent(&error) => Ok(()),
            result => result.map_err(self.failed("stop container", container)),
        }
    }

    /// Sends SIGKILL; not running or gone already is success.
    ///
    /// # Errors
    /// [`DockerError::Request`].
    pub async fn kill(&self, container: &str) -> Result<(), DockerError> {
        match self.client.kill_container(container, None::<KillContainerOptions>).await {
            Err(error) if matches!(refusal(&error), Some((404 | 409, _))) => Ok(()),
            result => result.map_err(self.failed("kill container", container)),
        }
    }

    /// Removes a container, running or not, with its anonymous volumes; gone already, or being
    /// removed by somebody else, is success.
    ///
    /// # Errors
    /// [`DockerError::Request`].
    pub async fn remove(&self, container: &str) -> Result<(), DockerError> {
        let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
        match self.client.remove_container(container, Some(options)).await {
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) if refusal(&error).is_some_and(|(_, message)| message.contains("already in progress")) => Ok(()),
            result => result.map_err(self.failed("remove container", container)),
        }
    }
}
