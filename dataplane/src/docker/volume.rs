use std::collections::HashMap;

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};

use super::error::is_absent;
use super::spec::volume_name;
use super::{Docker, DockerError, labels};
use crate::model::EnvironmentKey;

/// A named volume of an environment, be it in use or not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Volume {
    /// Whose.
    pub environment: EnvironmentKey,
    /// As the Compose file names it.
    pub volume: String,
}

impl Docker {
    /// The named volumes of every environment that there ever was, in the order of their names.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], [`DockerError::Request`].
    pub async fn volumes(&self) -> Result<Vec<Volume>, DockerError> {
        let ours = HashMap::from([("label".to_owned(), vec![labels::VOLUME.to_owned()])]);
        let options = ListVolumesOptions { filters: Some(ours) };
        let listed = self.client().await?.list_volumes(Some(options)).await;
        let listed = listed.map_err(self.failed("list", "volumes"))?.volumes.unwrap_or_default();
        let mut volumes: Vec<Volume> = listed
            .into_iter()
            .filter_map(|found| {
                let text = |label: &str| found.labels.get(label).cloned();
                let environment =
                    EnvironmentKey { project: text(labels::PROJECT)?, environment: text(labels::ENVIRONMENT)? };
                let volume = text(labels::VOLUME)?;
                // Whoever copies labels does not make a volume ours.
                (found.name == volume_name(&environment, &volume)).then_some(Volume { environment, volume })
            })
            .collect();
        volumes.sort_unstable();
        Ok(volumes)
    }

    /// Makes a named volume of an environment unless it is there; returns Docker's name of it.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`], [`DockerError::Request`].
    pub async fn ensure_volume(&self, environment: &EnvironmentKey, volume: &str) -> Result<String, DockerError> {
        let name = volume_name(environment, volume);
        let labels = HashMap::from([
            (labels::PROJECT.to_owned(), environment.project.clone()),
            (labels::ENVIRONMENT.to_owned(), environment.environment.clone()),
            (labels::VOLUME.to_owned(), volume.to_owned()),
        ]);
        // The engine answers with the old one when there is one of that name.
        let request =
            VolumeCreateRequest { name: Some(name.clone()), labels: Some(labels), ..VolumeCreateRequest::default() };
        self.client().await?.create_volume(request).await.map_err(self.failed("create volume", &name))?;
        Ok(name)
    }

    /// Removes a named volume of an environment with its data; gone already is success.
    ///
    /// # Errors
    /// [`DockerError::Request`], also when a container still uses it.
    pub async fn remove_volume(&self, environment: &EnvironmentKey, volume: &str) -> Result<(), DockerError> {
        let name = volume_name(environment, volume);
        match self.client().await?.remove_volume(&name, None::<RemoveVolumeOptions>).await {
            Err(error) if is_absent(&error) => Ok(()),
            result => result.map_err(self.failed("remove volume", &name)),
        }
    }
}
