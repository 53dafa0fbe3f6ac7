//! Files out of containers and into them, as tar archives.

use std::io;
use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::{ContainerArchiveInfoOptions, DownloadFromContainerOptions, UploadToContainerOptions};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};

use super::error::{is_absent, is_no_container};
use super::{Docker, DockerError};

/// The engine answers when it has written everything.
const WRITE_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// Of the mode as the engine tells it, which is Go's `os.FileMode`.
const MODE_DIRECTORY: u32 = 1 << 31;
const MODE_LINK: u32 = 1 << 27;

impl Docker {
    /// Whether there is a directory at this path of a container, or where a link there leads; [`None`]: there is nothing.
    ///
    /// # Errors
    /// [`DockerError::NoContainer`], [`DockerError::Request`].
    pub async fn is_directory(&self, container: &str, path: &str) -> Result<Option<bool>, DockerError> {
        let client = self.client().await?;
        let mut path = path.to_owned();
        loop {
            let options = ContainerArchiveInfoOptions { path: path.clone() };
            return match client.get_container_archive_info(container, Some(options)).await {
                // It leads to a path of the container, resolved.
                Ok(found) if found.file_mode & MODE_LINK != 0 && found.link_target != path => {
                    path = found.link_target;
                    continue;
                }
                Ok(found) => Ok(Some(found.file_mode & MODE_DIRECTORY != 0)),
                // An answer to HEAD has no text that tells it from a container that is gone.
                Err(error) if is_absent(&error) => Ok(None),
                Err(error) => Err(self.failed("look into container", container)(error)),
            };
        }
    }

    /// What is at this path of a container, a file or a directory with all that is in it.
    ///
    /// # Errors
    /// In its first item [`DockerError::NoFile`], [`DockerError::NoContainer`]; [`DockerError::Request`].
    pub async fn read_archive(
        &self,
        container: &str,
        path: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, DockerError>> + Send + use<>, DockerError> {
        let options = DownloadFromContainerOptions { path: path.to_owned() };
        let (docker, container, path) = (self.clone(), container.to_owned(), path.to_owned());
        let archive = self.client().await?.download_from_container(&container, Some(options));
        Ok(archive.map_err(move |error| docker.no_file("read from container", &container, &path, error)))
    }

    /// Writes what is in an archive below a directory of a container, over what is there.
    ///
    /// # Errors
    /// [`DockerError::NoFile`] without such a directory, [`DockerError::NoContainer`], [`DockerError::Request`] also when the
    /// archive breaks off.
    pub async fn write_archive(
        &self,
        container: &str,
        directory: &str,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), DockerError> {
        let options = UploadToContainerOptions { path: directory.to_owned(), ..UploadToContainerOptions::default() };
        let client = self.client().await?.with_timeout(WRITE_TIMEOUT);
        let written = client.upload_to_container(container, Some(options), bollard::body_try_stream(archive)).await;
        written.map_err(|error| self.no_file("write into container", container, directory, error))
    }

    fn no_file(&self, operation: &'static str, container: &str, path: &str, error: Error) -> DockerError {
        match error {
            error if is_no_container(&error) => DockerError::NoContainer(container.to_owned()),
            error if is_absent(&error) => DockerError::NoFile { path: path.to_owned() },
            error => self.failed(operation, container)(error),
        }
    }
}
