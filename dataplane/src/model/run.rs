//! Runs of services that have a schedule. Written by the controller alone.

use serde::{Deserialize, Serialize};

use super::name::ServiceKey;
use super::rollout::Millis;

/// So many runs of a service are remembered.
const HISTORY: usize = 20;

/// What became of a service's runs, and when the next one is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Runs {
    /// Whose.
    #[serde(flatten)]
    pub key: ServiceKey,
    /// When the next one is due, if one ever is.
    pub next: Option<Due>,
    /// The number of the last one. They are counted from 1 over all deployments; the replica that is a run has its
    /// number.
    pub last: u32,
    /// The last ones, the oldest first.
    pub runs: Vec<Run>,
}

/// When a run is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Due {
    /// Milliseconds since the epoch.
    pub at: Millis,
    /// The schedule that says so.
    pub schedule: String,
    /// What the clock said when it was read.
    pub told: Millis,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Run {
    /// 1, 2, 3 …
    pub number: u32,
    /// Of which version of the service.
    pub deployment: u32,
    /// When it was due, in milliseconds since the epoch.
    pub due: Millis,
    /// When it was begun, in milliseconds since the epoch; [`None`]: it never was.
    pub started: Option<Millis>,
    /// When it came to its end, in milliseconds since the epoch.
    pub ended: Option<Millis>,
    /// What became of it.
    pub state: RunState,
    /// Its exit status, once it has one.
    pub status: Option<i64>,
    /// Why it failed or was skipped, for people.
    pub reason: Option<String>,
    /// The node that it was on, if that was lost before the run had ended, as far as anybody knows.
    #[serde(default)]
    pub lost: Option<String>,
    /// So many in a row were skipped.
    pub times: u32,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// It is due later.
    Scheduled,
    /// It was begun, and has not ended.
    Running,
    /// It ended with status 0.
    Succeeded,
    /// It ended with another status, or could not be started.
    Failed,
    /// The one before had not ended when it was due.
    Skipped,
}

impl std::fmt::Display for RunState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        })
    }
}

impl Runs {
    /// Of a service that has never run.
    pub fn new(key: ServiceKey) -> Self {
        Self { key, next: None, last: 0, runs: Vec::new() }
    }

    /// Those that have not ended: one, unless a store was mended.
    pub fn open(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.ended.is_none())
    }

    /// The same, to be changed.
    pub fn open_mut(&mut self) -> impl Iterator<Item = &mut Run> {
        self.runs.iter_mut().filter(|run| run.ended.is_none())
    }

    /// Whether a run was on a node that was lost before it had ended.
    pub fn lost(&self, deployment: u32, number: u32) -> bool {
        self.runs.iter().any(|run| (run.deployment, run.number) == (deployment, number) && run.lost.is_some())
    }

    /// Adds a run; the oldest that has ended is forgotten for it when there are too many.
    pub fn push(&mut self, run: Run) {
        self.last = run.number;
        self.runs.push(run);
        if self.runs.len() > HISTORY
            && let Some(oldest) = self.runs.iter().position(|run| run.ended.is_some())
        {
            self.runs.remove(oldest);
        }
    }
}

impl Run {
    /// Comes to its end.
    pub fn end(&mut self, state: RunState, reason: Option<String>, now: Millis) {
        (self.state, self.reason, self.ended) = (state, reason, Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EnvironmentKey;

    #[test]
    fn only_the_last_runs_are_remembered_and_the_open_one_is_among_them() {
        let environment = EnvironmentKey { project: "shop".into(), environment: "production".into() };
        let mut runs = Runs::new(ServiceKey { environment, service: "nightly".into() });
        for number in 1..=50 {
            // The third never ends.
            let ended = (number != 3).then_some(u64::from(number));
            let state = if ended.is_some() { RunState::Skipped } else { RunState::Running };
            let (started, status, reason, lost, times) = (None, None, None, None, 1);
            runs.push(Run { number, deployment: 1, due: 0, started, ended, state, status, reason, lost, times });
        }
        assert_eq!((runs.last, runs.runs.len(), runs.runs[0].number, runs.runs[1].number), (50, HISTORY, 3, 32));
        assert_eq!(runs.open().map(|run| run.number).collect::<Vec<_>>(), [3]);
        runs.open_mut().for_each(|run| run.end(RunState::Succeeded, None, 51));
        assert_eq!(runs.open().count(), 0);
    }
}
