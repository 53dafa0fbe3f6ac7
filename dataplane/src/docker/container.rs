use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfigLogConfig};
use bollard::query_parameters::{
    CreateContainerOptions, KillContainerOptions, RemoveContainerOptions, RenameContainerOptions,
    StartContainerOptions, StopContainerOptions, WaitContainerOptions,
};
use futures_util::TryStreamExt;

use super::error::{is_absent, is_no_container, refusal};
use super::{Docker, DockerError, SandboxSpec, WorkloadSpec, sandbox_name, workload_name};

/// The engine's, for a container that was made without one.
const GRACE: Duration = Duration::from_secs(10);

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
        let name = workload_name(&spec.node, &spec.key);
        let log_default = match self.log_default() {
            Some(known) => known,
            None => self.find_log_default(&name, spec.probe()).await?,
        };
        self.create(name, spec.body(&log_default)).await
    }

    /// What the engine does with the output of a container that asks for nothing. It tells nobody, unless by what it
    /// makes of one: `probe` is made, never started, and removed.
    async fn find_log_default(
        &self,
        name: &str,
        probe: ContainerCreateBody,
    ) -> Result<HostConfigLogConfig, DockerError> {
        let id = self.create(name.to_owned(), probe).await?;
        let made = self.client().await?.inspect_container(&id, None).await;
        let made = made.map_err(self.failed("inspect container", name))?;
        self.remove(&id).await?;
        let config = made.host_config.and_then(|host| host.log_config).unwrap_or_default();
        self.learn_log_default(&config);
        Ok(config)
    }

    async fn create(&self, name: String, body: ContainerCreateBody) -> Result<String, DockerError> {
        let image = body.image.clone().unwrap_or_default();
        let options = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
        match self.client().await?.create_container(Some(options), body).await {
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
        let started = self.client().await?.start_container(container, None::<StartContainerOptions>).await;
        started.map_err(|error| self.not_started("start container", container, "", error))
    }

    /// Why a container is not brought to run; before the engine's reason goes what is `said`.
    pub(super) fn not_started(
        &self,
        operation: &'static str,
        container: &str,
        said: &str,
        error: Error,
    ) -> DockerError {
        match refusal(&error) {
            Some(_) if is_no_container(&error) => DockerError::NoContainer(container.to_owned()),
            Some((_, message)) => {
                let reason = format!("{said}{}", message.trim_end());
                DockerError::Start { container: container.to_owned(), reason }
            }
            None => self.failed(operation, container)(error),
        }
    }

    /// Sends the container's stop signal and, after its grace period, SIGKILL; stopped or gone already is success.
    ///
    /// # Errors
    /// [`DockerError::Request`].
    pub async fn stop(&self, container: &str) -> Result<(), DockerError> {
        let client = self.client().await?;
        let grace = match client.inspect_container(container, None).await {
            Ok(found) => found.config.and_then(|config| config.stop_timeout),
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(self.failed("inspect container", container)(error)),
        };
        let grace = grace.and_then(|seconds| u64::try_from(seconds).ok()).map_or(GRACE, Duration::from_secs);
        // The engine answers when the container has stopped.
        match client.with_timeout(grace + STOP_MARGIN).stop_container(container, None::<StopContainerOptions>).await {
            Err(error) if is_absent(&error) => Ok(()),
            result => result.map_err(self.failed("stop container", container)),
        }
    }

    /// Thaws a container; not paused, not running or gone is success.
    ///
    /// # Errors
    /// [`DockerError::Request`].
    pub async fn unpause(&self, container: &str) -> Result<(), DockerError> {
        match self.client().await?.unpause_container(container).await {
            // Engines before 24 answer 500 to what is not paused.
            Err(error) if is_absent(&error) || is_not(&error, "paused") || is_not(&error, "running") => Ok(()),
            result => result.map_err(self.failed("unpause container", container)),
        }
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// [`DockerError::NameTaken`], [`DockerError::NoContainer`], [`DockerError::Request`].
    pub async fn rename(&self, container: &str, name: &str) -> Result<(), DockerError> {
        let options = RenameContainerOptions { name: name.to_owned() };
        match self.client().await?.rename_container(container, options).await {
            Ok(()) => Ok(()),
            Err(error) => Err(match refusal(&error) {
                Some((404, _)) => DockerError::NoContainer(container.to_owned()),
                Some((409, _)) => DockerError::NameTaken { name: name.to_owned() },
                // It has that name already.
                Some((400, text)) if text.contains("same name") => return Ok(()),
                _ => self.failed("rename container", container)(error),
            }),
        }
    }

    /// Sends SIGKILL; not running or gone already is success.
    ///
    /// # Errors
    /// [`DockerError::Request`].
    pub async fn kill(&self, container: &str) -> Result<(), DockerError> {
        match self.client().await?.kill_container(container, None::<KillContainerOptions>).await {
            Err(error) if matches!(refusal(&error), Some((404 | 409, _))) => Ok(()),
            result => result.map_err(self.failed("kill container", container)),
        }
    }

    /// Removes a container, running or not, with its anonymous volumes; gone already is success, and so is a removal
    /// by somebody else, which is awaited.
    ///
    /// # Errors
    /// [`DockerError::Request`].
    pub async fn remove(&self, container: &str) -> Result<(), DockerError> {
        let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
        let client = self.client().await?;
        match client.remove_container(container, Some(options)).await {
            Err(error) if is_absent(&error) => Ok(()),
            // Its name is free only when it is gone.
            Err(error) if refusal(&error).is_some_and(|(_, message)| message.contains("already in progress")) => {
                let gone = WaitContainerOptions { condition: "removed".to_owned() };
                match client.wait_container(container, Some(gone)).try_for_each(|_| async { Ok(()) }).await {
                    // Whatever status it ended with.
                    Err(error) if is_absent(&error) || matches!(error, Error::DockerContainerWaitError { .. }) => {
                        Ok(())
                    }
                    result => result.map_err(self.failed("wait for the removal of container", container)),
                }
            }
            result => result.map_err(self.failed("remove container", container)),
        }
    }
}

/// Whether the engine refused because the container is not so.
fn is_not(error: &Error, state: &str) -> bool {
    refusal(error).is_some_and(|(_, message)| message.trim_end().ends_with(&format!("is not {state}")))
}
