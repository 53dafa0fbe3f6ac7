use super::{Docker, DockerError};

/// One line of a pull's progress.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// The layer, when it is about one.
    pub layer: Option<String>,
    /// Such as `Downloading`.
    pub status: String,
    /// Bytes so far, when known.
    pub current: Option<u64>,
    /// Bytes in all, when known.
    pub total: Option<u64>,
}

impl Docker {
    /// Whether the engine has an image under this reference.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], [`DockerError::Request`].
    pub async fn image_present(&self, image: &str) -> Result<bool, DockerError> {
        let _ = image;
        unimplemented!()
    }

    /// Pulls an image (`latest` when the reference has no tag), telling `progress` how it goes.
    ///
    /// # Errors
    /// [`DockerError::Image`] with the registry's reason.
    pub async fn pull(&self, image: &str, progress: impl FnMut(PullProgress) + Send) -> Result<(), DockerError> {
        let _ = (image, progress);
        unimplemented!()
    }
}
