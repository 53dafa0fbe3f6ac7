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

use std::collections::{BTreeMap, BTreeSet};

use crate::model::rollout::{FailureAction, Millis, Order, Rollout};
use crate::model::{
    Deployment, DeploymentState, Next, Phase, ReplicaKey, ReplicaState, ReplicaStatus, ServiceAssignment, ServiceKey,
    ServiceSpec,
};

/// From the moment when all maps lead to the new replicas to the drain of the old ones: a connection that was begun a
/// moment before is not seen in their namespaces yet.
const SETTLE: Millis = 2_000;
/// So often may a replica fail to be made before its deployment has failed: a registry may be away for a moment.
const ATTEMPTS: u32 = 3;

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
    /// Every node's maps say what the assignment says.
    pub(super) acknowledged: bool,
    /// Milliseconds since the epoch.
    pub(super) now: Millis,
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
        let count = |number| self.deployments.get(&number).map_or(0, |deployment| deployment.spec.replicas);
        let old = (replaced + 1..=count(self.serving)).map(|replica| (self.serving, replica));
        let new = underway.filter(|new| new.key.deployment != self.serving);
        let new = new.into_iter().flat_map(|new| (1..=new.started).map(|replica| (new.key.deployment, replica)));
        old.chain(new).collect()
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
        let Situation { intent, now, .. } = *situation;
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
        let now = situation.now;
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
        let first = self.serving == 0;
        if let Some(deployment) = self.deployments.get_mut(&newest) {
            deployment.state = DeploymentState::Deploying;
            deployment.enter(Phase::Preparing, now);
            deployment.served = first;
            deployment.started = if first { deployment.spec.replicas } else { 0 };
        }
        match first {
            true => self.serving = newest,
            false => self.round(situation),
        }
    }

    /// One step of the one that is on its way.
    fn advance(&mut self, situation: &Situation<'_>) {
        let now = situation.now;
        let (serving, switched) = (self.serving, self.switched());
        self.recover(situation);
        let Some(deployment) = self.underway().filter(|d| d.state == DeploymentState::Deploying) else { return };
        let (number, order, since) = (deployment.key.deployment, deployment.spec.order(), deployment.since);
        let (is_back, delay) = (deployment.reason.is_some(), rollout(deployment).delay);
        let passed = |wait: Millis| now.saturating_sub(since) >= wait;
        match deployment.phase {
            Phase::Preparing | Phase::Starting | Phase::Monitoring => self.incoming(situation),
            Phase::Switching if situation.acknowledged => self.enter(Phase::Settling, now),
            Phase::Switching => {}
            Phase::Settling if !passed(SETTLE) => self.due = Some(since + SETTLE),
            Phase::Settling if !is_back && order == Order::StartFirst && self.is_through() => self.finish(now),
            Phase::Settling => {
                let Some(deployment) = self.underway_mut() else { return };
                *if is_back { &mut deployment.started } else { &mut deployment.replaced } = switched;
                deployment.enter(Phase::Draining, now);
            }
            Phase::Draining => {
                let leaves = |(of, replica): &(u32, u32)| match is_back {
                    true => *of == number && *replica > switched,
                    false => *of == serving && *replica <= switched,
                };
                if situation.replicas.iter().any(|replica| leaves(replica)) {
                    return;
                }
                if order == Order::StartFirst {
                    return self.end_round(situation);
                }
                let Some(deployment) = self.underway_mut() else { return };
                *if is_back { &mut deployment.replaced } else { &mut deployment.started } = switched;
                deployment.enter(Phase::Preparing, now);
            }
            Phase::Pausing if passed(delay) => self.round(situation),
            Phase::Pausing => self.due = Some(since + delay),
            Phase::Paused | Phase::Over => {}
        }
    }

    /// The first one has nothing to go back to: it may turn out well after all.
    fn recover(&mut self, situation: &Situation<'_>) {
        let Some(serving) = self.deployments.get_mut(&self.serving) else { return };
        let lot = (1..=serving.spec.replicas).map(|replica| situation.fares(self.serving, replica));
        if serving.state == DeploymentState::Failed
            && serving.phase == Phase::Over
            && lot.into_iter().all(|fares| matches!(fares, Fares::Well))
        {
            serving.reason = None;
            serving.end(DeploymentState::Ready, situation.now);
        }
    }

    /// Waits until the replicas of this batch are well and have been so for a while.
    fn incoming(&mut self, situation: &Situation<'_>) {
        let (now, serving, switched) = (situation.now, self.serving, self.switched());
        let count = self.deployments.get(&serving).map_or(0, |deployment| deployment.spec.replicas);
        let Some(deployment) = self.underway() else { return };
        let (number, is_back, phase) = (deployment.key.deployment, deployment.reason.is_some(), deployment.phase);
        let (rollout, since) = (rollout(deployment).clone(), deployment.since);
        let lot: Vec<Fares> = match is_back {
            false if number == serving => (1..=count).map(|replica| situation.fares(number, replica)).collect(),
            false => (1..=deployment.started).map(|replica| situation.fares(number, replica)).collect(),
            true => (deployment.replaced + 1..=(deployment.replaced + batch(&rollout, count)).min(count))
                .map(|replica| situation.fares(serving, replica))
                .collect(),
        };
        let ill = lot.iter().find_map(|fares| match fares {
            Fares::Ill(reason) => Some(reason.clone()),
            _ => None,
        });
        let unwell = lot.iter().find_map(|fares| match fares {
            Fares::Starting(what) => Some(what.clone()),
            Fares::Preparing => Some(None),
            _ => None,
        });
        let prepared = !lot.iter().any(|fares| matches!(fares, Fares::Preparing));
        let timeout = deployment.spec.start_timeout;
        match (ill, unwell) {
            (Some(reason), _) if !is_back => self.fail(situation, reason),
            (None, Some(what)) if !is_back && phase == Phase::Monitoring => {
                let what = what.unwrap_or_else(|| "it ended".into());
                self.fail(situation, format!("it was well, and did not stay so: {what}"));
            }
            (None, None) if number == serving => self.finish(now),
            (None, None) if phase != Phase::Monitoring && rollout.monitor > 0 => {
                self.enter(Phase::Monitoring, now);
                self.due = Some(now + rollout.monitor);
            }
            (None, None) if now.saturating_sub(since) < rollout.monitor => self.due = Some(since + rollout.monitor),
            (None, None) if deployment.spec.order() == Order::StopFirst => self.end_round(situation),
            (None, None) => {
                let bound = if is_back { deployment.replaced } else { deployment.started };
                debug_assert_ne!(bound, switched, "a batch has at least one replica");
                self.switch(bound);
                self.enter(Phase::Switching, now);
            }
            _ if phase == Phase::Preparing && prepared => {
                self.enter(Phase::Starting, now);
                self.due = Some(now + timeout);
            }
            (_, Some(what)) if phase == Phase::Starting && !is_back => match now.saturating_sub(since) < timeout {
                true => self.due = Some(since + timeout),
                false => {
                    let what = what.map(|what| format!(": {what}")).unwrap_or_default();
                    self.fail(situation, format!("it was not well within {} s{what}", timeout / 1000));
                }
            },
            _ => {}
        }
    }

    /// Begins a batch, if one is left.
    fn round(&mut self, situation: &Situation<'_>) {
        let (now, switched) = (situation.now, self.switched());
        if self.is_through() {
            return self.finish(now);
        }
        let Some(deployment) = self.underway_mut() else { return };
        let is_back = deployment.reason.is_some();
        let batch = batch(rollout(deployment), deployment.spec.replicas.max(switched));
        let target = match is_back {
            true => switched.saturating_sub(batch),
            false => (switched + batch).min(deployment.spec.replicas),
        };
        match deployment.spec.order() {
            Order::StartFirst => {
                *if is_back { &mut deployment.replaced } else { &mut deployment.started } = target;
                deployment.enter(Phase::Preparing, now);
            }
            Order::StopFirst => {
                deployment.enter(Phase::Switching, now);
                self.switch(target);
            }
        }
    }

    fn end_round(&mut self, situation: &Situation<'_>) {
        let Some(deployment) = self.underway() else { return };
        let delay = rollout(deployment).delay;
        match delay > 0 && !self.is_through() {
            true => {
                self.enter(Phase::Pausing, situation.now);
                self.due = Some(situation.now + delay);
            }
            false => self.round(situation),
        }
    }

    /// Whether clients are sent to all of its replicas, or, on the way back, to none.
    fn is_through(&self) -> bool {
        let switched = self.switched();
        self.underway().is_some_and(|d| match d.reason.is_some() {
            true => switched == 0,
            false => switched >= d.spec.replicas,
        })
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
        (deployment.replaced, deployment.served) = (0, true);
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
        let (now, serving, switched) = (situation.now, self.serving, self.switched());
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

    fn switched(&self) -> u32 {
        self.next.map_or(0, |next| next.replicas)
    }

    fn switch(&mut self, replicas: u32) {
        let number = self.underway().map(|deployment| deployment.key.deployment);
        self.next = number.filter(|_| replicas > 0).map(|deployment| Next { deployment, replicas });
    }

    fn enter(&mut self, phase: Phase, now: Millis) {
        if let Some(deployment) = self.underway_mut() {
            deployment.enter(phase, now);
        }
    }
}

impl Situation<'_> {
    fn fares(&self, deployment: u32, replica: u32) -> Fares {
        let Some(status) = (self.status)(&self.key.replica(deployment, replica)) else { return Fares::Preparing };
        let message = status.message.clone();
        match status.state {
            ReplicaState::Running | ReplicaState::Exited => Fares::Well,
            ReplicaState::Failed if status.attempts > 0 && status.attempts < ATTEMPTS => Fares::Starting(message),
            ReplicaState::Failed | ReplicaState::Unhealthy => {
                Fares::Ill(message.unwrap_or_else(|| status.state.to_string()))
            }
            ReplicaState::Pending | ReplicaState::Pulling => Fares::Preparing,
            ReplicaState::Starting | ReplicaState::Stopping | ReplicaState::Stopped => Fares::Starting(message),
        }
    }
}

/// How it goes on: forward, or back.
fn rollout(deployment: &Deployment) -> &Rollout {
    if deployment.reason.is_some() { &deployment.spec.rollback } else { &deployment.spec.update }
}

/// Replicas at a time, of so many.
fn batch(rollout: &Rollout, of: u32) -> u32 {
    if rollout.parallelism == 0 { of } else { rollout.parallelism }.max(1)
}
