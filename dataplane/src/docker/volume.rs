use super::{Docker, DockerError};
use crate::model::EnvironmentKey;

impl Docker {
    /// Makes a named volume of an environment unless it is there; returns Docker's name of it.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], [`DockerError::Request`].
    pub async fn ensure_volume(&self, environment: &EnvironmentKey, volume: &str) -> Result<String, DockerError> {
        let _ = (environment, volume);
        unimplemented!()
    }

    /// Removes a named volume of an environment with its data; gone already is success.
    ///
    /// # Errors
    /// [`DockerError::Request`], also when a container still uses it.
    pub async fn remove_volume(&self, environment: &EnvironmentKey, volume: &str) -> Result<(), DockerError> {
        let _ = (environment, volume);
        unimplemented!()
    }
}
