use std::time::Duration;

use super::{Docker, DockerError, SandboxSpec, WorkloadSpec};

impl Docker {
    /// Makes (does not start) a sandbox; returns its id. The pause image must be there.
    ///
    /// # Errors
    /// [`DockerError::NameTaken`], [`DockerError::Image`], [`DockerError::Request`].
    pub async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<String, DockerError> {
        let _ = spec;
        unimplemented!()
    }

    /// Makes (does not start) a workload; returns its id. Image and volumes must be there.
    ///
    /// # Errors
    /// [`DockerError::NameTaken`], [`DockerError::Image`], [`DockerError::Request`].
    pub async fn create_workload(&self, spec: &WorkloadSpec) -> Result<String, DockerError> {
        let _ = spec;
        unimplemented!()
    }

    /// Starts a container; running already is success.
    ///
    /// # Errors
    /// [`DockerError::Start`] with the engine's reason, [`DockerError::NoContainer`].
    pub async fn start(&self, container: &str) -> Result<(), DockerError> {
        let _ = container;
        unimplemented!()
    }

    /// Sends the stop signal and, after `grace`, SIGKILL; stopped or gone already is success.
    ///
    /// # Errors
    /// [`DockerError::Request`].
    pub async fn stop(&self, container: &str, grace: Duration) -> Result<(), DockerError> {
        let _ = (container, grace);
        unimplemented!()
    }

    /// Sends SIGKILL; not running or gone already is success.
    ///
    /// # Errors
    /// [`DockerError::Request`].
    pub async fn kill(&self, container: &str) -> Result<(), DockerError> {
        let _ = container;
        unimplemented!()
    }

    /// Removes a container, running or not, with its anonymous volumes; gone already is success.
    ///
    /// # Errors
    /// [`DockerError::Request`].
    pub async fn remove(&self, container: &str) -> Result<(), DockerError> {
        let _ = container;
        unimplemented!()
    }
}
