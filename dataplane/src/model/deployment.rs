//! Versions of a service and how each came to serve, or did not. Written by the controller alone.

use serde::{Deserialize, Serialize};

use super::name::DeploymentKey;
use super::rollout::Millis;
use super::spec::ServiceSpec;

/// A version of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Deployment {
    /// Which.
    #[serde(flatten)]
    pub key: DeploymentKey,
    /// What it is.
    pub spec: ServiceSpec,
    /// What its image turned out to be, by digest, once a node has it: the same is run ever after.
    pub image: Option<String>,
    /// Where it stands.
    pub state: DeploymentState,
    /// What is being done.
    pub phase: Phase,
    /// Since when, in milliseconds since the epoch.
    pub since: Millis,
    /// Its release task has ended well, if it has one.
    pub released: bool,
    /// So many of its replicas, the first ones, are to be there.
    pub started: u32,
    /// So many replicas of the one before, the first ones, are not to be there any more.
    pub replaced: u32,
    /// Why it failed, for people.
    pub reason: Option<String>,
    /// When it was asked for, in milliseconds since the epoch.
    pub created: Millis,
    /// When it came to its end: ready, failed or superseded.
    pub ended: Option<Millis>,
    /// Clients were sent to all of it once.
    pub served: bool,
    /// Connections that were cut when its replicas were stopped.
    pub cut: u32,
}

/// Where a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeploymentState {
    /// It waits for the one before.
    Queued,
    /// It is on its way.
    Deploying,
    /// It serves, or did.
    Ready,
    /// It came to nothing.
    Failed,
    /// Another one has taken its place, or was asked for before this one served.
    Superseded,
}

impl std::fmt::Display for DeploymentState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Queued => "queued",
            Self::Deploying => "deploying",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        })
    }
}

/// What is being done about a deployment, or, once it has a reason to fail, about the way back. Each step is one
/// transaction, and any may be the last before a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its release task runs.
    Releasing,
    /// Nodes get the image.
    Preparing,
    /// Its replicas are made and are not well yet.
    Starting,
    /// They are well, and must stay so for a while.
    Monitoring,
    /// Clients are to be sent to them; not every node has said that its maps say so.
    Switching,
    /// Every node has; connections that were begun at that moment may still reach the old ones.
    Settling,
    /// The replicas whose place they took end.
    Draining,
    /// The next batch waits.
    Pausing,
    /// It failed and stays as it is, as was asked for.
    Paused,
    /// Nothing.
    Over,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Releasing => "releasing",
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Monitoring => "monitoring",
            Self::Switching => "switching",
            Self::Settling => "settling",
            Self::Draining => "draining",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
            Self::Over => "over",
        })
    }
}

impl Deployment {
    /// A deployment that has just been asked for.
    pub fn new(key: DeploymentKey, spec: ServiceSpec, now: Millis) -> Self {
        Self {
            key,
            released: spec.release.is_none(),
            spec,
            image: None,
            state: DeploymentState::Queued,
            phase: Phase::Preparing,
            since: now,
            started: 0,
            replaced: 0,
            reason: None,
            created: now,
            ended: None,
            served: false,
            cut: 0,
        }
    }

    /// Comes to its end.
    pub fn end(&mut self, state: DeploymentState, now: Millis) {
        (self.state, self.phase, self.ended) = (state, Phase::Over, Some(now));
    }

    /// Begins a step.
    pub fn enter(&mut self, phase: Phase, now: Millis) {
        (self.phase, self.since) = (phase, now);
    }

    /// Whether something is still to be done about it.
    pub fn is_open(&self) -> bool {
        matches!(self.state, DeploymentState::Queued | DeploymentState::Deploying)
    }
}
