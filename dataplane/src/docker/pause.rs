//! The sandbox's image: one static program that does nothing, carried by skepd itself.

use super::{Docker, DockerError};

impl Docker {
    /// Imports the pause image unless it is there; returns its reference, `skep-pause:<digest>`.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], [`DockerError::Request`].
    pub async fn import_pause(&self) -> Result<String, DockerError> {
        unimplemented!()
    }

    /// Removes every `skep-pause` image that no container uses.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], [`DockerError::Request`].
    pub async fn remove_pause(&self) -> Result<(), DockerError> {
        unimplemented!()
    }
}
