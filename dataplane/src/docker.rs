//! The Docker Engine: sandboxes, workloads, images, volumes, events.
//!
//! bollard's types stay in here; callers see the structs of this module. Works with every engine
//! from 20.10 (API 1.41) on: the version is negotiated.

mod container;
mod error;
mod events;
mod image;
mod labels;
mod observed;
mod pause;
mod spec;
mod volume;

pub use error::DockerError;
pub use events::{ContainerEvent, EventKind};
pub use image::PullProgress;
pub use labels::Role;
pub use observed::{ContainerState, Health, ObservedContainer};
pub use spec::{SandboxSpec, WorkloadSpec, sandbox_name, volume_name, workload_name};

/// The oldest engine that has what Skep needs.
pub const ENGINE_MIN: (u32, u32) = (20, 10);

/// A connection to one engine.
#[derive(Debug, Clone)]
pub struct Docker {
    client: bollard::Docker,
    address: String,
}

/// What an engine says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Such as `20.10.24`.
    pub version: String,
    /// Containers go on while the engine restarts.
    pub live_restore: bool,
    /// Root in a container is another user on the host.
    pub userns_remap: bool,
    /// Its data directory.
    pub root_dir: String,
}

impl Docker {
    /// Connects to `unix:///path` (or `tcp://host:port`) and negotiates the API version.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`] when nothing answers there, [`DockerError::Address`] for another scheme.
    pub async fn connect(address: &str) -> Result<Self, DockerError> {
        let _ = address;
        unimplemented!()
    }

    /// Asks the engine about itself.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`] when it does not answer.
    pub async fn info(&self) -> Result<EngineInfo, DockerError> {
        let _ = (&self.client, &self.address);
        unimplemented!()
    }
}
