//! How a deployment takes the place of the one before, and how a replica is known to be well.

use serde::{Deserialize, Serialize};

/// Milliseconds, for durations in what is stored.
pub type Millis = u64;

/// How a deployment replaces the one before: Compose's `update_config`, and `rollback_config` for the way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Rollout {
    /// Replicas replaced at a time; 0: all of them, by one switch.
    pub parallelism: u32,
    /// Which comes first.
    pub order: Order,
    /// What happens when the new one is not well.
    pub failure_action: FailureAction,
    /// How long a replica must have been well before clients are sent to it.
    pub monitor: Millis,
    /// Pause between two batches.
    pub delay: Millis,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            parallelism: 0,
            order: Order::default(),
            failure_action: FailureAction::default(),
            monitor: 10_000,
            delay: 0,
        }
    }
}

impl Rollout {
    /// The default for the way back: from there is none further back.
    pub fn back() -> Self {
        Self { failure_action: FailureAction::Pause, ..Self::default() }
    }
}

/// Whether a new replica runs before the one whose place it takes stops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Both run for a while; clients notice nothing.
    #[default]
    StartFirst,
    /// Never both at once: what a volume that two must not write to needs.
    StopFirst,
}

/// What happens when a deployment is not well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FailureAction {
    /// It is taken away; what it had replaced already comes back.
    #[default]
    Rollback,
    /// All stays as it is at that moment.
    Pause,
    /// It goes on all the same.
    Continue,
}

/// Compose's `healthcheck`: Docker runs it in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HealthCheck {
    /// As Docker's API has it: `["CMD", …]`, `["CMD-SHELL", …]`, `["NONE"]` for none at all; empty: the image's own.
    pub test: Vec<String>,
    /// Between two checks; [`None`]: the image's, or Docker's default.
    pub interval: Option<Millis>,
    /// A check that takes longer has failed.
    pub timeout: Option<Millis>,
    /// So many failures in a row make it unhealthy.
    pub retries: Option<u32>,
    /// Failures do not count for so long after the start.
    pub start_period: Option<Millis>,
    /// Between two checks while it starts.
    pub start_interval: Option<Millis>,
}

impl HealthCheck {
    /// Whether it switches off the image's own, and is none itself.
    pub fn is_disabled(&self) -> bool {
        self.test == ["NONE"]
    }
}

/// What the node itself asks a replica: `x-skep.health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Probe {
    /// GET this path; a status from 200 to 399 is well. [`None`]: the port accepts a connection.
    pub path: Option<String>,
    /// Between two probes.
    pub interval: Millis,
    /// An answer that takes longer is none.
    pub timeout: Millis,
    /// So many failures in a row make it unhealthy.
    pub retries: u32,
}

impl Default for Probe {
    fn default() -> Self {
        Self { path: None, interval: 2_000, timeout: 2_000, retries: 3 }
    }
}
