//! This machine's daemon, stopped while what it reads at its start changes. What runs goes on meanwhile.

use super::ClusterError;
use crate::backup::is_served;
use crate::config::Config;
use crate::{install, service_manager};

const UNIT: &str = install::UNITS[0];

/// Until it ends, the daemon does not run.
pub(super) struct Pause {
    is_unit: bool,
}

impl Pause {
    /// Stops the daemon if it is a unit.
    ///
    /// # Errors
    /// [`ClusterError::Running`] when it is none, [`ClusterError::Unit`].
    pub(super) async fn begin(config: &Config) -> Result<Self, ClusterError> {
        let is_unit = config.is_the_machines() && install::has_unit();
        if is_unit {
            let stopped = service_manager::stop(UNIT).await;
            stopped.map_err(|source| ClusterError::Unit { operation: "stop", source })?;
        }
        let path = config.socket();
        if is_served(&path).await { Err(ClusterError::Running { path }) } else { Ok(Self { is_unit }) }
    }

    /// Starts the units: `before` the daemon those that it needs. Whether there are any.
    ///
    /// # Errors
    /// [`ClusterError::Unit`].
    pub(super) async fn end(self, before: &[&'static str]) -> Result<bool, ClusterError> {
        if self.is_unit {
            for unit in before {
                let enabled = service_manager::enable(unit).await;
                enabled.map_err(|source| ClusterError::Unit { operation: "enable what is needed by", source })?;
            }
            let started = service_manager::start(UNIT).await;
            started.map_err(|source| ClusterError::Unit { operation: "start", source })?;
        }
        Ok(self.is_unit)
    }
}
