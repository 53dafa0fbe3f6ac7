//! One service's runs: which have ended, whether one is due, and when the next one will be.
//!
//! A run is a replica of the deployment that serves at that moment, and stays that one's when another takes its place.
//! There is never a second one beside it: what comes due meanwhile is skipped, and that is remembered. Nor is there one
//! beside a run whose node is lost: nobody knows whether that goes on, until the node is back or forgotten.
//!
//! **When.** A service is due for the first time after its schedule was first seen, or was changed. What came due while
//! nobody could begin it (skepd was not there, the machine was off) is made up once, however often it did. A clock that is
//! put back by less than [`BACK`] repeats nothing: the next time stays what it was; one that is put back further was wrong
//! before, and its times with it. One that is put forward is the same as an absence.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;
use std::time::{Duration, UNIX_EPOCH};

use super::deploy::ATTEMPTS;
use crate::model::rollout::Millis;
use crate::model::schedule::Schedule;
use crate::model::{Deployment, Due, ReplicaKey, ReplicaState, ReplicaStatus, Run, RunState, Runs, ServiceKey};

/// As cron has it: a smaller change of the clock is a correction, a greater one makes its times new.
const BACK: Millis = 3 * 60 * 60 * 1000;

/// What there is of a service.
pub(super) struct Situation<'a> {
    pub(super) key: &'a ServiceKey,
    /// By number.
    pub(super) deployments: &'a BTreeMap<u32, Deployment>,
    /// The one that serves.
    pub(super) serving: u32,
    pub(super) runs: Option<&'a Runs>,
    /// Deployment and number of the replicas that are runs.
    pub(super) replicas: BTreeSet<(u32, u32)>,
    pub(super) status: &'a dyn Fn(&ReplicaKey) -> Option<&'a ReplicaStatus>,
    /// The node that a replica is on, if that is lost.
    pub(super) lost: &'a dyn Fn(&ReplicaKey) -> Option<&'a str>,
    /// Milliseconds since the epoch.
    pub(super) now: Millis,
}

/// What its runs should be; [`None`] for a service that never had a schedule. Pure.
pub(super) fn decide(situation: &Situation<'_>) -> Option<Runs> {
    let serving = situation.deployments.get(&situation.serving);
    let active = serving.filter(|deployment| deployment.released && deployment.spec.replicas > 0);
    let schedule = active.and_then(|deployment| deployment.spec.schedule.as_deref());
    if schedule.is_none() && situation.runs.is_none() {
        return None;
    }
    let mut runs = situation.runs.cloned().unwrap_or_else(|| Runs::new(situation.key.clone()));
    adopt(&mut runs, situation);
    settle(&mut runs, situation);
    let next = runs.next.take();
    runs.next = schedule.and_then(|schedule| {
        let known = next.filter(|due| due.schedule == schedule && situation.now.saturating_add(BACK) >= due.told);
        match known {
            Some(due) if situation.now < due.at => Some(due),
            Some(due) => {
                begin(&mut runs, due.at, situation);
                after(schedule, situation.now)
            }
            None => after(schedule, situation.now),
        }
    });
    Some(runs)
}

/// Deployment and number of every replica that should be there.
pub(super) fn wanted(runs: &Runs) -> BTreeSet<(u32, u32)> {
    runs.open().map(|run| (run.deployment, run.number)).collect()
}

/// A store that was mended from an older copy does not know the last runs.
fn adopt(runs: &mut Runs, situation: &Situation<'_>) {
    let unknown = situation.replicas.iter().filter(|(_, number)| *number > runs.last).copied();
    let mut unknown: Vec<(u32, u32)> = unknown.collect();
    unknown.sort_unstable_by_key(|(_, number)| *number);
    for (deployment, number) in unknown {
        runs.push(running(number, deployment, situation.now, situation.now));
    }
}

/// Has those end that have.
fn settle(runs: &mut Runs, situation: &Situation<'_>) {
    let key = runs.key.clone();
    for run in runs.open_mut() {
        if !situation.deployments.contains_key(&run.deployment) {
            run.end(RunState::Failed, Some("its deployment is gone".into()), situation.now);
            continue;
        }
        let replica = key.replica(run.deployment, run.number);
        if let Some(status) = (situation.status)(&replica) {
            told(run, status, situation.now);
        }
        if let Some(node) = (situation.lost)(&replica)
            && run.ended.is_none()
        {
            run.lost = Some(node.to_owned());
            let reason = format!("node {node} was lost, and how the run ended is not known");
            run.end(RunState::Failed, Some(reason), situation.now);
        }
    }
}

/// Has a run end if its node tells so.
fn told(run: &mut Run, status: &ReplicaStatus, now: Millis) {
    match (status.state, status.exit) {
        (ReplicaState::Exited, _) => {
            run.status = Some(0);
            run.end(RunState::Succeeded, None, now);
        }
        (ReplicaState::Failed, Some(exit)) => {
            run.status = Some(exit);
            let reason = status.message.clone().unwrap_or_else(|| format!("ended with status {exit}"));
            run.end(RunState::Failed, Some(reason), now);
        }
        // A container that Docker starts again, or that somebody paused, has not ended.
        (ReplicaState::Failed, None) if status.attempts >= ATTEMPTS => {
            run.end(RunState::Failed, status.message.clone(), now);
        }
        _ => {}
    }
}

/// Begins the one that is due, unless the one before goes on, or may.
fn begin(runs: &mut Runs, due: Millis, situation: &Situation<'_>) {
    let now = situation.now;
    let new = running(runs.last + 1, situation.serving, due, now);
    let Some((begun, reason)) = in_the_way(runs, situation) else { return runs.push(new) };
    // One long run must not fill the whole history.
    match runs.runs.last_mut().filter(|last| last.state == RunState::Skipped && last.ended >= begun) {
        Some(last) => {
            last.times += 1;
            (last.due, last.reason) = (due, Some(format!("{reason}, {} times", last.times)));
        }
        None => {
            let (state, ended, reason) = (RunState::Skipped, Some(now), Some(reason));
            runs.push(Run { started: None, state, ended, reason, ..new });
        }
    }
}

/// The run beside which another would be the second: when it was begun, and why it counts.
fn in_the_way(runs: &Runs, situation: &Situation<'_>) -> Option<(Option<Millis>, String)> {
    if let Some(open) = runs.open().next() {
        return Some((open.started, format!("run {} had not ended", open.number)));
    }
    // Its node may be cut off from everybody, and go on with it.
    let there = |run: &&Run| situation.replicas.contains(&(run.deployment, run.number));
    let (run, node) = runs.runs.iter().filter(there).find_map(|run| Some((run, run.lost.as_ref()?)))?;
    let way_out = format!("bring it back, or `skepctl nodes remove {node}`");
    Some((run.started, format!("run {} may still go on on node {node}, which was lost ({way_out})", run.number)))
}

fn running(number: u32, deployment: u32, due: Millis, now: Millis) -> Run {
    Run {
        number,
        deployment,
        due,
        started: Some(now),
        ended: None,
        state: RunState::Running,
        status: None,
        reason: None,
        lost: None,
        times: 1,
    }
}

/// When it is due next.
fn after(schedule: &str, now: Millis) -> Option<Due> {
    let next = Schedule::from_str(schedule).ok()?.next(UNIX_EPOCH + Duration::from_millis(now))?;
    let at = u64::try_from(next.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
    Some(Due { at, schedule: schedule.to_owned(), told: now })
}

#[cfg(test)]
mod tests;
