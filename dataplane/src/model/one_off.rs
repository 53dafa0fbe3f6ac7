//! Commands of their own: `skepctl run web rake db:migrate` runs in a container like those of `web`, made for it alone.
//!
//! To the controller and the agent it is a replica of a deployment that no version is, so it is plumbed, isolated and taken
//! away as any other. Its container does nothing by itself: whoever asked runs the command in it, and takes it away.

use serde::{Deserialize, Serialize};

use super::name::{ReplicaKey, ServiceKey};
use super::rollout::HealthCheck;
use super::spec::{RestartPolicy, ServiceSpec};
use super::{Condition, Reserved};

/// The deployment under which one-offs are counted: versions are counted from 1.
const DEPLOYMENT: u32 = 0;

/// The program that keeps a one-off's container until its command has ended: put into it beside what the image has.
pub const HOLDER: &str = "/.skep-hold";

/// That somebody wants a container for a command. It is there for as long as this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneOff {
    /// The replica that it is.
    #[serde(flatten)]
    pub key: ReplicaKey,
    /// The version of the service that it is like.
    pub of: u32,
    /// Where it was asked for, and runs.
    pub node: String,
    /// Why it cannot.
    #[serde(default)]
    pub refused: Option<Condition>,
}

impl ServiceKey {
    /// One of its one-offs.
    pub fn one_off(&self, number: u32) -> ReplicaKey {
        self.replica(DEPLOYMENT, number)
    }
}

impl ReplicaKey {
    /// Whether it is there for one command.
    pub fn is_one_off(&self) -> bool {
        self.deployment == DEPLOYMENT
    }

    /// What tells it from the service's others: `2`, `run-2`.
    pub fn ordinal(&self) -> String {
        if self.is_one_off() { format!("run-{}", self.replica) } else { self.replica.to_string() }
    }
}

impl ServiceSpec {
    /// The same as a container that waits for a command: with its volumes, variables and networks, reserving nothing, and
    /// asked by nobody how it is.
    pub fn one_off(&self) -> Self {
        let mut settings = self.settings.clone();
        // The holder is written into it.
        settings.read_only = false;
        let mut placement = self.placement.clone();
        placement.max_per_node = None;
        Self {
            entrypoint: Some(vec![HOLDER.to_owned()]),
            command: Some(Vec::new()),
            restart: RestartPolicy::No,
            healthcheck: Some(HealthCheck { test: vec!["NONE".to_owned()], ..HealthCheck::default() }),
            probe: None,
            // What asks the service's own program to end does not end the holder.
            stop_signal: Some("SIGTERM".to_owned()),
            drain_timeout: 0,
            reserved: Reserved::default(),
            release: None,
            schedule: None,
            settings,
            placement,
            ..self.clone()
        }
    }
}
