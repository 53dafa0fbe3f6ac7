//! The sandbox's image: one static program that does nothing, carried by skepd itself.

use bollard::query_parameters::{CreateImageOptions, ListImagesOptions, RemoveImageOptions};
use futures_util::TryStreamExt;
use std::collections::HashMap;

use super::error::refusal;
use super::files::archive;
use super::{Docker, DockerError, Placed};

/// See `pause/pause.rs`.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

const REPOSITORY: &str = "skep-pause";

/// Where the program is in the image.
pub(super) const PATH: &str = "/pause";

/// Reference of the image that this build of skepd carries.
pub(super) fn reference() -> String {
    format!("{REPOSITORY}:{:016x}", digest(PROGRAM))
}

/// FNV-1a: tells one build's program from another's; nobody has to be kept from forging it, since
/// whoever can load an image into the engine is root.
const fn digest(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

/// The program as a file: the image's only one, or one beside those of another image.
pub fn program(path: &str) -> Placed<'_> {
    Placed { path, mode: 0o755, uid: 0, gid: 0, content: PROGRAM }
}

impl Docker {
    /// Imports the pause image unless it is there; returns its reference, `skep-pause:<digest>`.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], [`DockerError::Request`].
    pub async fn import_pause(&self) -> Result<String, DockerError> {
        let reference = reference();
        if self.image(&reference).await?.is_some() {
            return Ok(reference);
        }
        let failed = self.failed("import image", &reference);
        let archive = archive(&[program(PATH)]).map_err(|error| failed(error.into()))?;
        let (repository, tag) = reference.split_once(':').unwrap_or((&reference, "latest"));
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
            ..CreateImageOptions::default()
        };
        let body = bollard::body_full(archive);
        self.client()
            .await?
            .create_image(Some(options), Some(body), None)
            .try_for_each(|_| async { Ok(()) })
            .await
            .map_err(failed)?;
        Ok(reference)
    }

    /// Removes every `skep-pause` image that no container uses.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], [`DockerError::Request`].
    pub async fn remove_pause(&self) -> Result<(), DockerError> {
        let filters = HashMap::from([("reference".to_owned(), vec![REPOSITORY.to_owned()])]);
        let options = ListImagesOptions { filters: Some(filters), ..ListImagesOptions::default() };
        let client = self.client().await?;
        let images = client.list_images(Some(options)).await.map_err(self.failed("list", "images"))?;
        for reference in images.into_iter().flat_map(|image| image.repo_tags) {
            match client.remove_image(&reference, None::<RemoveImageOptions>, None).await {
                // Used by a container of another daemon on the same engine, or gone already.
                Err(error) if matches!(refusal(&error), Some((404 | 409, _))) => {}
                result => {
                    result.map_err(self.failed("remove image", &reference))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_a_static_file_without_an_interpreter() {
        assert_eq!(&PROGRAM[..4], b"\x7fELF");
        assert!(PROGRAM.len() < 16 * 1024, "{} bytes", PROGRAM.len());
        // An interpreter or a library would be named as a path.
        assert!(!PROGRAM.windows(3).any(|bytes| bytes == b".so"));
    }

    #[test]
    fn the_archive_holds_the_program_executable() {
        let bytes = archive(&[program(PATH)]).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("pause"));
        assert_eq!(entry.header().mode().unwrap(), 0o755);
        assert_eq!(entry.size(), PROGRAM.len() as u64);
    }

    #[test]
    fn the_digest_is_fnv_1a() {
        assert_eq!(digest(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(digest(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
