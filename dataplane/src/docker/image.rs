use bollard::auth::DockerCredentials;
use bollard::query_parameters::{CreateImageOptions, RemoveImageOptions};
use futures_util::TryStreamExt;

use super::error::{is_absent, refusal};
use super::{Docker, DockerError};
use crate::model::RegistryLogin;
use crate::model::registry::registry_of;

/// The engine's answer about what is in use.
const CONFLICT: u16 = 409;

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

/// Whether a registry refused because of who asked. Each says it in words of its own; what Docker Hub says of a private
/// image, it says of one that does not exist, too, which this leaves out.
fn wants_login(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    ["unauthorized", "authentication required", "no basic auth credentials", "403 forbidden"]
        .iter()
        .any(|words| reason.contains(words))
}

fn credentials(image: &str, login: &RegistryLogin) -> DockerCredentials {
    DockerCredentials {
        username: Some(login.user.clone()),
        password: Some(login.password.expose().to_owned()),
        serveraddress: Some(registry_of(image).to_owned()),
        ..DockerCredentials::default()
    }
}

/// Whether a reference names a tag or digest; a port of the registry is neither.
fn is_exact(image: &str) -> bool {
    image.contains('@') || image.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

impl Docker {
    /// What an image runs its command with; nothing when it says nothing.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], [`DockerError::Request`], also when it is not there.
    pub async fn entrypoint(&self, image: &str) -> Result<Vec<String>, DockerError> {
        let found = self.client().await?.inspect_image(image).await.map_err(self.failed("look up image", image))?;
        Ok(found.config.and_then(|config| config.entrypoint).unwrap_or_default())
    }

    /// What the engine has under this reference, by digest: as its registry knows it (`name@sha256:…`), or by its id
    /// (`sha256:…`) if it came from none. [`None`]: nothing.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], [`DockerError::Request`].
    pub async fn image(&self, image: &str) -> Result<Option<String>, DockerError> {
        match self.client().await?.inspect_image(image).await {
            Ok(found) => Ok(found.repo_digests.and_then(|digests| digests.into_iter().next()).or(found.id)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.failed("look up image", image)(error)),
        }
    }

    /// Takes a name from an image, and its layers if it was the last one; false when containers use it, or it is gone.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], [`DockerError::Request`].
    pub async fn remove_image(&self, image: &str) -> Result<bool, DockerError> {
        match self.client().await?.remove_image(image, None::<RemoveImageOptions>, None).await {
            Ok(_) => Ok(true),
            Err(error) if is_absent(&error) || matches!(refusal(&error), Some((CONFLICT, _))) => Ok(false),
            Err(error) => Err(self.failed("remove image", image)(error)),
        }
    }

    /// Pulls an image (`latest` when the reference has no tag) as whom its registry knows, telling `progress` how it
    /// goes.
    ///
    /// # Errors
    /// [`DockerError::Image`] with the registry's reason.
    pub async fn pull(
        &self,
        image: &str,
        login: Option<&RegistryLogin>,
        mut progress: impl FnMut(PullProgress) + Send,
    ) -> Result<(), DockerError> {
        let options = CreateImageOptions {
            from_image: Some(image.to_owned()),
            // Without a tag the engine would pull all of them.
            tag: (!is_exact(image)).then(|| "latest".to_owned()),
            ..CreateImageOptions::default()
        };
        let client = self.client().await?;
        let mut lines =
            std::pin::pin!(client.create_image(Some(options), None, login.map(|login| credentials(image, login))));
        loop {
            match lines.try_next().await {
                Ok(None) => return Ok(()),
                Ok(Some(line)) => {
                    let detail = line.progress_detail.unwrap_or_default();
                    progress(PullProgress {
                        layer: line.id,
                        status: line.status.unwrap_or_default(),
                        current: detail.current.and_then(|bytes| bytes.try_into().ok()),
                        total: detail.total.and_then(|bytes| bytes.try_into().ok()),
                    });
                }
                Err(error) => return Err(self.not_pulled(image, error)),
            }
        }
    }

    fn not_pulled(&self, image: &str, error: bollard::errors::Error) -> DockerError {
        let reason = match (&error, refusal(&error)) {
            (_, Some((_, message))) => message.to_owned(),
            (bollard::errors::Error::DockerStreamError { error }, _) => error.clone(),
            _ => return self.failed("pull image", image)(error),
        };
        let (image, reason) = (image.to_owned(), reason.trim_end().to_owned());
        if wants_login(&reason) {
            return DockerError::Login { registry: registry_of(&image).to_owned(), image, reason };
        }
        DockerError::Image { image, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_port_is_no_tag() {
        for exact in ["redis:7", "a/b:1", "host:5000/a:1", "a@sha256:00", "host:5000/a@sha256:00"] {
            assert!(is_exact(exact), "{exact}");
        }
        for open in ["redis", "a/b", "host:5000/a"] {
            assert!(!is_exact(open), "{open}");
        }
    }
}
