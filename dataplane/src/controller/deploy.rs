//! One service's deployments: which are asked for, which one is on its way, how far it is, and the next step.
//!
//! Three numbers say how far: `started` of its replicas are to be there, clients are sent to `switched` of them
//! ([`Next::replicas`]), and `replaced` of the old one's are not to be there any more. A round moves each of them by
//! one batch, in this order, and waits after each:
//!
//! | order | first | then | last |
//! |---|---|---|---|
//! | start-first | `started`, until they are well | `switched`, until every node's maps say so | `replaced`, until they are gone |
//! | stop-first | `switched` | `replaced` | `started` |
//!
//! A deployment that fails goes the same way back, with the parts of the two exchanged. What should be there follows
//! from the numbers alone, so any step may be the last one before a crash.

mod way;

use std::collections::{BTreeMap, BTreeSet};

use super::clock::Clock;
use crate::model::assignment::RELEASE_TASK;
use crate::model::rollout::{FailureAction, Millis, Order};
use crate::model::{
    Deployment, DeploymentState, Next, Phase, ReplicaKey, ReplicaState, ReplicaStatus, ServiceAssignment, ServiceKey,
    ServiceSpec,
};

/// So often may a replica fail to be made before its deployment has failed: a registry may be away for a moment.
pub(super) const ATTEMPTS: u32 = 3;

/// What there is of a service.
pub(super) struct Situation<'a> {
    pub(super) key: &'a ServiceKey,
    /// What people want it to be.
    pub(super) intent: &'a ServiceSpec,
    pub(super) assigned: Option<&'a ServiceAssignment>,
    /// By number.
    pub(super) deployments: BTreeMap<u32, Deployment>,
    /// Deployment and number of those that are assigned.
    pub(super) replicas: BTreeSet<(u32, u32)>,
    pub(super) status: &'a dyn Fn(&ReplicaKey) -> Option<&'a ReplicaStatus>,
    /// The node that a replica is on, if that is lost.
    pub(super) lost: &'a dyn Fn(&ReplicaKey) -> Option<&'a str>,
    /// Every node's maps say what the assignment says.
    pub(super) acknowledged: bool,
    /// Milliseconds since the epoch.
    pub(super) clock: Clock,
}

/// What there should be of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decision {
    /// By number.
    pub(super) deployments: BTreeMap<u32, Deployment>,
    /// The one that serves.
    pub(super) serving: u32,
    pub(super) next: Option<Next>,
    /// When to decide again, should nothing happen before.
    pub(super) due: Option<Millis>,
}

/// How a replica fares, as its deployment sees it.
enum Fares {
    /// Its image is not there yet.
    Preparing,
    /// Not well yet, with what is known of it.
    Starting(Option<String>),
    /// Not any more; why is told in a moment.
    Ended,
    Well,
    /// It will not be well.
    Ill(String),
}

/// The next step for a service. Pure.
pub(super) fn decide(situation: &Situation<'_>) -> Decision {
    let serving = situation.assigned.map_or(0, |assigned| assigned.deployment);
    let next = situation.assigned.and_then(|assigned| assigned.next);
    let deployments = situation.deployments.clone();
    let mut decision = Decision { deployments, serving, next, due: None };
    decision.ask(situation);
    decision.begin(situation);
    decision.advance(situation);
    decision.pin(situation);
    decision
}

impl Decision {
    /// Deployment and number of every replica that should be there.
    pub(super) fn wanted(&self) -> BTreeSet<(u32, u32)> {
        let underway = self.underway();
        let replaced = underway.map_or(0, |deployment| deployment.replaced);
        let released = |number| self.deployments.get(&number).filter(|deployment| deployment.released);
        let count = |number| released(number).map_or(0, |deployment| deployment.spec.permanent());
        let releasing = underway.filter(|d| d.phase == Phase::Releasing && d.is_open());
        let task = releasing.map(|deployment| (deployment.key.deployment, RELEASE_TASK));
        let old = (replaced + 1..=count(self.serving)).map(|replica| (self.serving, replica));
        let new = underway.filter(|new| new.key.deployment != self.serving);
        let new = new.into_iter().flat_map(|new| (1..=new.started).map(|replica| (new.key.deployment, replica)));
        old.chain(new).chain(task).collect()
    }

    /// The one that is taking the place of the one that serves, or stopped on its way.
    fn underway(&self) -> Option<&Deployment> {
        let mut all = self.deployments.values().rev();
        all.find(|d| d.state == DeploymentState::Deploying || d.phase == Phase::Paused)
    }

    fn underway_mut(&mut self) -> Option<&mut Deployment> {
        let number = self.underway()?.key.deployment;
        self.deployments.get_mut(&number)
    }

    /// Makes a deployment of what is wanted, unless there is one.
    fn ask(&mut self, situation: &Situation<'_>) {
        let Situation { intent, clock: Clock { now, .. }, .. } = *situation;
        let latest = self.deployments.keys().next_back().copied().unwrap_or(0);
        let same = |deployment: &&mut Deployment| deployment.spec.same_deployment(intent);
        // What failed is not tried again by itself; what was given up is, when it is wanted again.
        let given_up = |d: &Deployment| d.state == DeploymentState::Superseded && d.key.deployment != self.serving;
        if let Some(latest) = self.deployments.get_mut(&latest).filter(|latest| same(latest) && !given_up(latest)) {
            latest.spec.replicas = intent.replicas;
            return;
        }
        let goes_on =
            self.deployments.get(&latest).is_some_and(|latest| latest.is_open() && !self.is_revocable(latest));
        if !goes_on {
            if let Some(latest) = self.deployments.get_mut(&latest).filter(|latest| latest.is_open()) {
                latest.started = 0;
                latest.end(DeploymentState::Superseded, now);
            }
            // People changed their mind: what serves is what they want.
            if let Some(serving) = self.deployments.get_mut(&self.serving).filter(same) {
                serving.spec.replicas = intent.replicas;
                if serving.state == DeploymentState::Superseded {
                    serving.state = DeploymentState::Ready;
                }
                return;
            }
        }
        let key = situation.key.deployment(latest + 1);
        self.deployments.insert(latest + 1, Deployment::new(key, intent.clone(), now));
    }

    /// Keeps what each image turned out to be.
    fn pin(&mut self, situation: &Situation<'_>) {
        for (number, replica) in &situation.replicas {
            let Some(deployment) = self.deployments.get_mut(number).filter(|d| d.image.is_none()) else { continue };
            let status = (situation.status)(&situation.key.replica(*number, *replica));
            deployment.image = status.and_then(|status| status.image.clone());
        }
    }

    /// Whether nobody was ever sent to it: it can be given up as if it had never been.
    fn is_revocable(&self, deployment: &Deployment) -> bool {
        deployment.key.deployment == self.serving
            || (self.next.is_none() && deployment.replaced == 0)
            || deployment.state == DeploymentState::Queued
    }

    /// Has the newest one that waits begin, when nothing is in its way. Those before it will never be.
    fn begin(&mut self, situation: &Situation<'_>) {
        let now = situation.clock.now;
        let queued = |d: &&Deployment| d.state == DeploymentState::Queued;
        let Some(newest) = self.deployments.values().rfind(queued).map(|d| d.key.deployment) else { return };
        for older in self.deployments.values_mut().filter(|d| d.state == DeploymentState::Queued) {
            if older.key.deployment != newest {
                older.end(DeploymentState::Superseded, now);
            }
        }
        if let Some(paused) = self.underway_mut() {
            // One that stopped on its way goes back first: never three versions at once.
            if paused.phase == Phase::Paused {
                paused.state = DeploymentState::Deploying;
                self.round(situation);
            }
            return;
        }
        if situation.replicas.iter().any(|(of, _)| *of != self.serving) {
            // What was there before is not gone yet.
            return;
        }
        let Some(deployment) = self.deployments.get_mut(&newest) else { return };
        deployment.state = DeploymentState::Deploying;
        deployment.enter(Phase::Releasing, now);
        if self.serving == 0 {
            self.serving = newest;
        }
    }

    /// The first one has nothing to go back to: it may turn out well after all.
    fn recover(&mut self, situation: &Situation<'_>) {
        let Some(serving) = self.deployments.get_mut(&self.serving) else { return };
        let lot = (1..=serving.spec.permanent()).map(|replica| situation.fares(self.serving, replica));
        if serving.state == DeploymentState::Failed
            && serving.released
            && serving.phase == Phase::Over
            && lot.into_iter().all(|fares| matches!(fares, Fares::Well))
        {
            serving.reason = None;
            serving.end(DeploymentState::Ready, situation.clock.now);
        }
    }

    /// The way forward, or back, is gone to its end.
    fn finish(&mut self, now: Millis) {
        let serving = self.serving;
        let Some(deployment) = self.underway_mut() else { return };
        let number = deployment.key.deployment;
        self.next = None;
        let Some(deployment) = self.deployments.get_mut(&number) else { return };
        if deployment.reason.is_some() {
            (deployment.started, deployment.replaced) = (0, 0);
            return deployment.end(DeploymentState::Failed, now);
        }
        (deployment.started, deployment.replaced, deployment.served) = (deployment.spec.permanent(), 0, true);
        deployment.end(DeploymentState::Ready, now);
        self.serving = number;
        if let Some(old) = self.deployments.get_mut(&serving).filter(|old| old.key.deployment != number)
            && old.state != DeploymentState::Failed
        {
            old.end(DeploymentState::Superseded, now);
        }
    }

    /// It will not be well. What was well before has its place back, at once where it never lost it.
    pub(super) fn fail(&mut self, situation: &Situation<'_>, reason: String) {
        let (now, serving, switched) = (situation.clock.now, self.serving, self.switched());
        let Some(deployment) = self.underway_mut() else { return };
        if deployment.key.deployment == serving {
            deployment.reason = Some(reason);
            return deployment.end(DeploymentState::Failed, now);
        }
        match deployment.spec.update.failure_action {
            FailureAction::Continue => match deployment.spec.order() {
                Order::StopFirst => self.end_round(situation),
                Order::StartFirst => {
                    let bound = deployment.started;
                    deployment.enter(Phase::Switching, now);
                    self.switch(bound);
                }
            },
            FailureAction::Pause => {
                deployment.reason = Some(reason);
                deployment.end(DeploymentState::Failed, now);
                deployment.phase = Phase::Paused;
            }
            FailureAction::Rollback if switched == 0 && deployment.replaced == 0 => {
                deployment.reason = Some(reason);
                deployment.started = 0;
                deployment.end(DeploymentState::Failed, now);
            }
            FailureAction::Rollback => {
                deployment.reason = Some(reason);
                // What was begun and never served goes at once.
                deployment.started = deployment.started.min(switched);
                self.round(situation);
            }
        }
    }
}

impl Situation<'_> {
    fn fares(&self, deployment: u32, replica: u32) -> Fares {
        let key = self.key.replica(deployment, replica);
        let status = (self.status)(&key);
        // Others are placed anew. It runs once, and may have done anything.
        if replica == RELEASE_TASK
            && status.is_none_or(|status| status.state != ReplicaState::Exited)
            && let Some(node) = (self.lost)(&key)
        {
            return Fares::Ill(format!("node {node} was lost, and how it ended is not known"));
        }
        let Some(status) = status else { return Fares::Preparing };
        let message = status.message.clone();
        let has_port = self.deployments.get(&deployment).is_some_and(|deployment| deployment.spec.port.is_some());
        let is_asked = has_port && replica != RELEASE_TASK;
        match status.state {
            ReplicaState::Exited if is_asked => {
                Fares::Ill("ended with status 0, and clients are to be sent to it".into())
            }
            ReplicaState::Running | ReplicaState::Exited => Fares::Well,
            ReplicaState::Failed if status.attempts > 0 && status.attempts < ATTEMPTS => Fares::Starting(message),
            ReplicaState::Failed | ReplicaState::Unhealthy => {
                Fares::Ill(message.unwrap_or_else(|| status.state.to_string()))
            }
            ReplicaState::Ended => Fares::Ended,
            ReplicaState::Pending | ReplicaState::Pulling | ReplicaState::Scheduled => Fares::Preparing,
            ReplicaState::Starting | ReplicaState::Stopping | ReplicaState::Stopped => Fares::Starting(message),
        }
    }
}
