//! How much of a node a replica may take.

use serde::{Deserialize, Serialize};

/// Limits of each replica of a service; what is [`None`] is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Limits {
    /// Bytes; a replica that needs more is killed.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Processors, in billionths.
    #[serde(default)]
    pub nano_cpus: Option<u64>,
    /// Processes and threads.
    #[serde(default)]
    pub pids: Option<u32>,
}
