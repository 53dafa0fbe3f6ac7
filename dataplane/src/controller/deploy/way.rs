//! One deployment on its way, batch by batch: forward, or back.

use super::{Decision, Fares, Situation};
use crate::model::assignment::RELEASE_TASK;
use crate::model::rollout::{Millis, Order, Rollout};
use crate::model::{Deployment, DeploymentState, Next, Phase, ReplicaState};

/// From the moment when all maps lead to the new replicas to the drain of the old ones: a connection that was begun a
/// moment before is not seen in their namespaces yet.
const SETTLE: Millis = 2_000;

impl Decision {
    /// One step of the one that is on its way.
    pub(super) fn advance(&mut self, situation: &Situation<'_>) {
        let now = situation.clock.now;
        let (serving, switched) = (self.serving, self.switched());
        self.recover(situation);
        let Some(deployment) = self.underway().filter(|d| d.state == DeploymentState::Deploying) else { return };
        let since = situation.clock.since(deployment.since);
        let (number, order) = (deployment.key.deployment, deployment.spec.order());
        let (is_back, delay) = (deployment.reason.is_some(), rollout(deployment).delay);
        let passed = |wait: Millis| situation.clock.passed(since, wait);
        match deployment.phase {
            Phase::Releasing => self.release(situation),
            Phase::Preparing | Phase::Starting | Phase::Monitoring => self.incoming(situation),
            Phase::Switching if situation.acknowledged => self.enter(Phase::Settling, now),
            Phase::Switching => {}
            Phase::Settling if !passed(SETTLE) => self.due = Some(since + SETTLE),
            Phase::Settling if !is_back && order == Order::StartFirst && self.is_through() => self.finish(now),
            Phase::Settling => {
                let Some(deployment) = self.underway_mut() else { return };
                match is_back {
                    true => deployment.started = deployment.spec.permanent().min(switched),
                    false => deployment.replaced = switched,
                }
                deployment.enter(Phase::Draining, now);
            }
            Phase::Draining => {
                let leaves = |(of, replica): &(u32, u32)| match is_back {
                    true => *of == number && *replica > switched,
                    false => *of == serving && *replica <= switched,
                };
                if situation.replicas.iter().any(leaves) {
                    return;
                }
                if order == Order::StartFirst {
                    return self.end_round(situation);
                }
                let Some(deployment) = self.underway_mut() else { return };
                match is_back {
                    true => deployment.replaced = switched,
                    false => deployment.started = deployment.spec.permanent().min(switched),
                }
                deployment.enter(Phase::Preparing, now);
            }
            Phase::Pausing if passed(delay) => self.round(situation),
            Phase::Pausing => self.due = Some(since + delay),
            Phase::Paused | Phase::Over => {}
        }
    }

    /// Waits for the end of the release task; then its replicas come.
    fn release(&mut self, situation: &Situation<'_>) {
        let serving = self.serving;
        let Some(deployment) = self.underway_mut() else { return };
        let number = deployment.key.deployment;
        let status = (situation.status)(&situation.key.replica(number, RELEASE_TASK));
        let has_ended = status.is_some_and(|status| status.state == ReplicaState::Exited);
        match situation.fares(number, RELEASE_TASK) {
            Fares::Ill(reason) if !deployment.released => {
                self.fail(situation, format!("its release task failed: {reason}"));
            }
            _ if !deployment.released && !has_ended => {}
            _ => {
                deployment.released = true;
                match number == serving {
                    true => deployment.enter(Phase::Preparing, situation.clock.now),
                    false => self.round(situation),
                }
            }
        }
    }

    /// Waits until the replicas of this batch are well and have been so for a while.
    fn incoming(&mut self, situation: &Situation<'_>) {
        let (now, serving, switched) = (situation.clock.now, self.serving, self.switched());
        let count = self.deployments.get(&serving).map_or(0, |deployment| deployment.spec.permanent());
        let Some(deployment) = self.underway() else { return };
        let (number, is_back, phase) = (deployment.key.deployment, deployment.reason.is_some(), deployment.phase);
        let (rollout, since) = (rollout(deployment).clone(), situation.clock.since(deployment.since));
        let passed = |wait: Millis| situation.clock.passed(since, wait);
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
        let unwell = lot.iter().filter_map(|fares| match fares {
            Fares::Starting(what) => Some(what.clone()),
            Fares::Preparing | Fares::Ended => Some(None),
            _ => None,
        });
        // Of several that are unwell, one says why.
        let unwell = unwell.reduce(Option::or);
        let unclear = lot.iter().any(|fares| matches!(fares, Fares::Ended));
        let prepared = !lot.iter().any(|fares| matches!(fares, Fares::Preparing));
        let timeout = deployment.spec.start_timeout;
        match (ill, unwell) {
            (Some(reason), _) if !is_back => self.fail(situation, reason),
            (None, Some(what)) if !is_back && phase == Phase::Monitoring && !unclear => {
                let what = what.unwrap_or_else(|| "it ended".into());
                self.fail(situation, format!("it was well, and did not stay so: {what}"));
            }
            (None, None) if number == serving => self.finish(now),
            (None, None) if phase != Phase::Monitoring && rollout.monitor > 0 => {
                self.enter(Phase::Monitoring, now);
                self.due = Some(now + rollout.monitor);
            }
            (None, None) if !passed(rollout.monitor) => self.due = Some(since + rollout.monitor),
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
            (_, Some(what)) if phase == Phase::Starting && !is_back => match passed(timeout) {
                false => self.due = Some(since + timeout),
                true => {
                    let what = what.map(|what| format!(": {what}")).unwrap_or_default();
                    self.fail(situation, format!("it was not well within {} s{what}", timeout / 1000));
                }
            },
            _ => {}
        }
    }

    /// Begins a batch, if one is left.
    pub(super) fn round(&mut self, situation: &Situation<'_>) {
        let (now, switched) = (situation.clock.now, self.switched());
        if self.is_through() {
            return self.finish(now);
        }
        let Some(deployment) = self.underway_mut() else { return };
        let is_back = deployment.reason.is_some();
        let batch = batch(rollout(deployment), deployment.spec.permanent().max(switched));
        let target = match is_back {
            true => switched.saturating_sub(batch),
            false => (switched + batch).min(deployment.spec.permanent()),
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

    pub(super) fn end_round(&mut self, situation: &Situation<'_>) {
        let Some(deployment) = self.underway() else { return };
        let delay = rollout(deployment).delay;
        match delay > 0 && !self.is_through() {
            true => {
                self.enter(Phase::Pausing, situation.clock.now);
                self.due = Some(situation.clock.now + delay);
            }
            false => self.round(situation),
        }
    }

    /// Whether clients are sent to all of its replicas, or, on the way back, to none.
    pub(super) fn is_through(&self) -> bool {
        let switched = self.switched();
        self.underway().is_some_and(|d| match d.reason.is_some() {
            true => switched == 0,
            false => switched >= d.spec.permanent(),
        })
    }

    pub(super) fn switched(&self) -> u32 {
        self.next.map_or(0, |next| next.replicas)
    }

    pub(super) fn switch(&mut self, replicas: u32) {
        let old = self.deployments.get(&self.serving).map_or(0, |deployment| deployment.spec.permanent());
        let Some(deployment) = self.underway() else { return };
        // The last batch takes the place of all that are left, be they more: two versions never serve longer than said.
        let is_last = deployment.reason.is_none() && replicas >= deployment.spec.permanent();
        let replicas = if is_last { replicas.max(old) } else { replicas };
        let deployment = deployment.key.deployment;
        self.next = (replicas > 0).then_some(Next { deployment, replicas });
    }

    pub(super) fn enter(&mut self, phase: Phase, now: Millis) {
        if let Some(deployment) = self.underway_mut() {
            deployment.enter(phase, now);
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
