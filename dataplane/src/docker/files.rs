//! Files that are put into a container before it starts.

use std::io;

use bollard::query_parameters::UploadToContainerOptions;
use bytes::Bytes;

use super::{Docker, DockerError};
use crate::model::file::{Content, File};

impl Docker {
    /// Writes files into a container that does not run, with what directories they need; each takes the place of what the
    /// image has there.
    ///
    /// # Errors
    /// [`DockerError::Start`] with the engine's reason, [`DockerError::NoContainer`].
    pub async fn put_files(&self, container: &str, files: &[(&String, &File, Content)]) -> Result<(), DockerError> {
        const OPERATION: &str = "write files into container";
        let archive = archive(files).map_err(|error| self.failed(OPERATION, container)(error.into()))?;
        let options = UploadToContainerOptions { path: "/".to_owned(), ..UploadToContainerOptions::default() };
        let client = self.client().await?;
        let written = client.upload_to_container(container, Some(options), bollard::body_full(archive)).await;
        written.map_err(|error| self.not_started(OPERATION, container, "its files cannot be written: ", error))
    }
}

fn archive(files: &[(&String, &File, Content)]) -> io::Result<Bytes> {
    let mut archive = tar::Builder::new(Vec::new());
    for (target, file, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.expose().len() as u64);
        header.set_mode(file.mode);
        header.set_uid(file.uid.into());
        header.set_gid(file.gid.into());
        archive.append_data(&mut header, target.trim_start_matches('/'), content.expose())?;
    }
    Ok(archive.into_inner()?.into())
}
