use std::process::ExitCode;
use std::time::Duration;

use dataplane::api::types::RunRow;
use dataplane::model::RunState;
use dataplane::model::schedule::utc;

use crate::cell::{Cell, Tone};
use crate::cli::{Global, HistoryArgs};
use crate::client::Client;
use crate::error::CtlError;
use crate::output::Output;
use crate::scope::{self, Scope};

const HEADER: [&str; 10] =
    ["PROJECT", "ENVIRONMENT", "SERVICE", "RUN", "DEPLOYMENT", "STATE", "DUE", "TOOK", "STATUS", "REASON"];

/// `runs`.
pub(crate) async fn list(global: &Global, args: &HistoryArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    let rows: Vec<RunRow> = Client::new(global).get(&Scope::new(global)?.query("/v1/runs")).await?;
    let rows = scope::of_service(rows, args.service.as_deref(), |row| &row.service)?;
    output.list(&HEADER, &rows, row)?;
    Ok(ExitCode::SUCCESS)
}

fn row(row: &RunRow) -> Vec<Cell> {
    let took = row.started.zip(row.ended).map(|(started, ended)| took(ended.saturating_sub(started)));
    vec![
        Cell::new(&row.project),
        Cell::new(&row.environment),
        Cell::new(&row.service),
        Cell::new(row.run),
        Cell::new(row.deployment),
        Cell::new(row.state).tone(tone(row.state)),
        Cell::new(utc(row.due)),
        Cell::or_dash(took),
        Cell::or_dash(row.status),
        Cell::new(row.reason.as_deref().unwrap_or_default()),
    ]
}

fn tone(state: RunState) -> Tone {
    match state {
        RunState::Succeeded => Tone::Good,
        RunState::Failed => Tone::Bad,
        RunState::Running | RunState::Skipped => Tone::Warn,
        RunState::Scheduled => Tone::Dim,
    }
}

/// `950ms`, `12.3s`, `2m 5s`, `3h 0m`.
fn took(millis: u64) -> String {
    let time = Duration::from_millis(millis);
    match time.as_secs() {
        0 => format!("{millis}ms"),
        1..60 => format!("{:.1}s", time.as_secs_f64()),
        seconds @ 60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        seconds => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_short() {
        let times = [950, 12_340, 125_000, 10_800_000].map(took);
        assert_eq!(times, ["950ms", "12.3s", "2m 5s", "3h 0m"]);
    }
}
