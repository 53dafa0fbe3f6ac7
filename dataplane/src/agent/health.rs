//! Whether a replica is well: what Docker's health check says, and what the node itself finds when it asks.

mod ask;
mod probes;
mod record;

pub use probes::{Probes, Target};
pub use record::Probed;

use crate::docker::Health;

/// How a running replica is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Well {
    /// It is not known to have been well yet.
    Starting {
        /// What keeps it from being so, as far as that is known.
        reason: Option<String>,
    },
    /// It can serve.
    Healthy,
    /// It was well, or had its time to become so, and is not.
    Unhealthy {
        /// For people.
        reason: String,
    },
}

/// Joins what Docker's health check says and what the node finds; `probed` is [`None`] for a replica that the node
/// asks nothing. It is well only when neither objects, and not well as soon as either does.
pub fn well(docker: Health, probed: Option<&Probed>) -> Well {
    let checked = match docker {
        Health::Unchecked | Health::Healthy => Well::Healthy,
        Health::Starting => Well::Starting { reason: Some("its health is not known yet".to_owned()) },
        Health::Unhealthy => Well::Unhealthy { reason: "its health check fails".to_owned() },
    };
    let asked = match probed {
        None | Some(Probed::Well) => Well::Healthy,
        Some(Probed::Unknown { reason }) => Well::Starting { reason: reason.clone() },
        Some(Probed::Unwell { reason }) => Well::Unhealthy { reason: reason.clone() },
    };
    match (checked, asked) {
        (Well::Unhealthy { reason }, Well::Unhealthy { reason: other }) => {
            Well::Unhealthy { reason: format!("{reason}; {other}") }
        }
        (unhealthy @ Well::Unhealthy { .. }, _) | (_, unhealthy @ Well::Unhealthy { .. }) => unhealthy,
        (Well::Starting { reason: checked }, Well::Starting { reason: asked }) => {
            // What the node finds says more.
            Well::Starting { reason: asked.or(checked) }
        }
        (starting @ Well::Starting { .. }, _) | (_, starting @ Well::Starting { .. }) => starting,
        (Well::Healthy, Well::Healthy) => Well::Healthy,
    }
}

/// Who of the running replicas of one service serves, in the order given: those that are healthy. When none is, those
/// that are unhealthy: the last one is not taken away because of a check, which may be wrong itself, while it may
/// still answer somebody. One that is starting never serves: it has not been seen to work.
pub fn serving<'a, K>(running: impl IntoIterator<Item = (K, &'a Well)>) -> Vec<K> {
    let (mut healthy, mut unhealthy) = (Vec::new(), Vec::new());
    for (replica, well) in running {
        match well {
            Well::Healthy => healthy.push(replica),
            Well::Unhealthy { .. } => unhealthy.push(replica),
            Well::Starting { .. } => {}
        }
    }
    if healthy.is_empty() { unhealthy } else { healthy }
}

#[cfg(test)]
mod tests;
