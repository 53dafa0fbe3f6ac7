//! Files that are put into a container before it starts.

use std::io;

use bollard::query_parameters::UploadToContainerOptions;
use bytes::Bytes;

use super::error::refusal;
use super::{Docker, DockerError};
use crate::model::file::{Content, File};

impl Docker {
    /// Writes files into a container that does not run, with what directories they need; each takes the place of what the
    /// image has there.
    ///
    /// # Errors
    /// [`DockerError::Start`] with the engine's reason, [`DockerError::NoContainer`].
    pub async fn put_files(&self, container: &str, files: &[(&String, &File, Content)]) -> Result<(), DockerError> {
        let failed = self.failed("write files into container", container);
        let archive = archive(files).map_err(|error| failed(error.into()))?;
        let options = UploadToContainerOptions { path: "/".to_owned(), ..UploadToContainerOptions::default() };
        let client = self.client().await?;
        match client.upload_to_container(container, Some(options), bollard::body_full(archive)).await {
            Ok(()) => Ok(()),
            Err(error) => Err(match refusal(&error) {
                Some((404, message)) if message.starts_with("No such container") => {
                    DockerError::NoContainer(container.to_owned())
                }
                Some((_, message)) => {
                    let reason = format!("its files cannot be written: {}", message.trim_end());
                    DockerError::Start { container: container.to_owned(), reason }
                }
                None => self.failed("write files into container", container)(error),
            }),
        }
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
