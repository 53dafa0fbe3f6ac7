use serde::{Deserialize, Serialize};

use super::HistoryEvent;
use crate::model::{Run, RunState, Runs, ServiceKey};

/// A run of a service that has a schedule; the last row of each service is the one that is due next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunRow {
    /// Whose.
    pub project: String,
    /// Whose.
    pub environment: String,
    /// Whose.
    pub service: String,
    /// 1, 2, 3 …
    pub run: u32,
    /// Of which version of the service.
    pub deployment: u32,
    /// What became of it.
    pub state: RunState,
    /// When it was due, or is, in milliseconds since the epoch.
    pub due: u64,
    /// When it was begun, in milliseconds since the epoch; [`None`]: it never was.
    pub started: Option<u64>,
    /// When it came to its end, in milliseconds since the epoch.
    pub ended: Option<u64>,
    /// Its exit status.
    pub status: Option<i64>,
    /// Why it failed or was skipped, for people.
    pub reason: Option<String>,
    /// So many in a row were skipped.
    pub times: u32,
}

impl RunRow {
    /// What is remembered of a service, the oldest first, and what comes next, of the version that serves.
    pub fn of(runs: &Runs, serving: u32) -> impl Iterator<Item = Self> {
        let next = runs.next.as_ref().map(|next| Run {
            number: runs.last + 1,
            deployment: serving,
            due: next.at,
            started: None,
            ended: None,
            state: RunState::Scheduled,
            status: None,
            reason: None,
            lost: None,
            times: 1,
        });
        let ServiceKey { environment, service } = &runs.key;
        runs.runs.iter().cloned().chain(next).map(|run| Self {
            project: environment.project.clone(),
            environment: environment.environment.clone(),
            service: service.clone(),
            run: run.number,
            deployment: run.deployment,
            state: run.state,
            due: run.due,
            started: run.started,
            ended: run.ended,
            status: run.status,
            reason: run.reason,
            times: run.times,
        })
    }
}

impl HistoryEvent {
    /// A run, as it is now.
    pub fn of_run(service: &ServiceKey, run: &Run, time_ms: u64) -> Self {
        let ServiceKey { environment, service } = service;
        Self {
            time_ms,
            project: environment.project.clone(),
            environment: environment.environment.clone(),
            service: service.clone(),
            deployment: run.deployment,
            replica: Some(run.number),
            state: match run.state {
                RunState::Running => "begun".into(),
                state => state.to_string(),
            },
            message: run.reason.clone(),
        }
    }
}
