//! Files that are put into a container before it starts.

use std::io;

use bollard::query_parameters::UploadToContainerOptions;
use bytes::Bytes;

use super::{Docker, DockerError};

/// A file to be.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    /// Absolute path in the container.
    pub path: &'a str,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What is in it.
    pub content: &'a [u8],
}

impl Docker {
    /// Writes files into a container that does not run, with what directories they need; each takes the place of what the
    /// image has there.
    ///
    /// # Errors
    /// [`DockerError::Start`] with the engine's reason, [`DockerError::NoContainer`].
    pub async fn put_files(&self, container: &str, files: &[Placed<'_>]) -> Result<(), DockerError> {
        const OPERATION: &str = "write files into container";
        let archive = archive(files).map_err(|error| self.failed(OPERATION, container)(error.into()))?;
        let options = UploadToContainerOptions { path: "/".to_owned(), ..UploadToContainerOptions::default() };
        let client = self.client().await?;
        let written = client.upload_to_container(container, Some(options), bollard::body_full(archive)).await;
        written.map_err(|error| self.not_started(OPERATION, container, "its files cannot be written: ", error))
    }
}

/// The files as the engine takes them.
pub(super) fn archive(files: &[Placed<'_>]) -> io::Result<Bytes> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.content.len() as u64);
        header.set_mode(file.mode);
        header.set_uid(file.uid.into());
        header.set_gid(file.gid.into());
        archive.append_data(&mut header, file.path.trim_start_matches('/'), file.content)?;
    }
    Ok(archive.into_inner()?.into())
}
