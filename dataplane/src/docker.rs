//! The Docker Engine: sandboxes, workloads, images, volumes, events.
//!
//! bollard's types stay in here; callers see the structs of this module. Works with every engine
//! from 20.10 (API 1.41) on: the version is negotiated.

mod archive;
mod attach;
mod body;
mod container;
mod error;
mod events;
mod exec;
mod files;
mod image;
mod labels;
mod last_words;
mod logs;
mod observed;
mod pause;
mod session;
mod spec;
mod volume;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use session::Session;

pub use attach::{Attached, Command, Size};
pub use error::DockerError;
pub use events::{ContainerEvent, EventKind};
pub use exec::Executed;
pub use files::Placed;
pub use image::PullProgress;
pub use labels::Role;
pub use logs::{LogLine, LogQuery};
pub use observed::{ContainerState, Health, ObservedContainer, RecordedContainer};
pub use pause::program as pause_program;
pub use spec::{SandboxSpec, WorkloadSpec, sandbox_name, volume_name, workload_name};
pub use volume::Volume;

/// The oldest engine that has what Skep needs.
pub const ENGINE_MIN: (u32, u32) = (20, 10);

/// One engine, whichever process it is: it may come, go, and come back as another version.
#[derive(Debug, Clone)]
pub struct Docker {
    address: String,
    session: Arc<Mutex<Option<Session>>>,
    /// Since when pings have not been answered.
    silent: Arc<Mutex<Option<Instant>>>,
}

/// What an engine says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// Such as `20.10.24`.
    pub version: String,
    /// Containers go on while the engine restarts.
    pub live_restore: bool,
    /// Root in a container is another user on the host.
    pub userns_remap: bool,
    /// Runs without root: it has a network namespace of its own, into which no veth can lead.
    pub rootless: bool,
    /// Its data directory.
    pub root_dir: String,
}

impl EngineInfo {
    /// Whether it is one that Skep works with; an unreadable version is not held against it.
    pub fn is_new_enough(&self) -> bool {
        let mut parts = self.version.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
        match (parts.next(), parts.next()) {
            (Some(major), Some(minor)) => (major, minor) >= ENGINE_MIN,
            _ => true,
        }
    }
}

impl Docker {
    /// The engine at `unix:///path`, whether it is there yet or not.
    ///
    /// # Errors
    /// [`DockerError::Address`] for another scheme.
    pub fn at(address: &str) -> Result<Self, DockerError> {
        if !address.starts_with("unix://") {
            return Err(DockerError::Address(address.to_owned()));
        }
        Ok(Self { address: address.to_owned(), session: Arc::default(), silent: Arc::default() })
    }

    /// The same, and it answers.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`] when nothing answers there, [`DockerError::Address`] for another scheme.
    pub async fn connect(address: &str) -> Result<Self, DockerError> {
        let docker = Self::at(address)?;
        docker.client().await?;
        Ok(docker)
    }

    /// Asks the engine about itself.
    ///
    /// # Errors
    /// [`DockerError::Unavailable`] when it does not answer.
    pub async fn info(&self) -> Result<EngineInfo, DockerError> {
        let info = self.client().await?.info().await.map_err(self.failed("describe", "the engine"))?;
        let security = info.security_options.unwrap_or_default();
        let has = |option: &str| security.iter().any(|line| line.split(',').any(|part| part == option));
        Ok(EngineInfo {
            version: info.server_version.unwrap_or_default(),
            live_restore: info.live_restore_enabled.unwrap_or_default(),
            userns_remap: has("name=userns"),
            rootless: has("name=rootless"),
            root_dir: info.docker_root_dir.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_before_20_10_are_too_old() {
        let info = |version: &str| EngineInfo { version: version.to_owned(), ..EngineInfo::default() };
        for good in ["20.10.24+dfsg1", "20.10.0", "28.2.2", "29.0.0-rc.1", "dev"] {
            assert!(info(good).is_new_enough(), "{good}");
        }
        for old in ["19.03.15", "20.9.1", "18.09"] {
            assert!(!info(old).is_new_enough(), "{old}");
        }
    }
}
