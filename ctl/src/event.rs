use std::process::ExitCode;

use dataplane::api::types::HistoryEvent;
use tokio::signal::unix::{SignalKind, signal};

use crate::cell::{self, Cell, Tone};
use crate::cli::{EventsArgs, Global};
use crate::client::Client;
use crate::error::CtlError;
use crate::monitor::local_time;
use crate::output::Output;
use crate::scope::Scope;

/// Time, whose, state, why.
const COLUMNS: usize = 4;

/// `events`.
pub(crate) async fn show(global: &Global, args: &EventsArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    let path = Scope::new(global)?.query_of("/v1/events", args.follow.then_some(("follow", "true")));
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = interrupt.recv() => Ok(ExitCode::SUCCESS),
        ended = show_all(global, args, &path, output) => ended,
    }
}

async fn show_all(global: &Global, args: &EventsArgs, path: &str, output: &mut Output) -> Result<ExitCode, CtlError> {
    let client = Client::new(global);
    let mut lines = client.stream(path).await?;
    let mut widths = [0; COLUMNS];
    loop {
        match lines.next::<HistoryEvent>().await {
            Ok(Some(event)) if output.is_json() => output.json_line(&event)?,
            Ok(Some(event)) => {
                let row = row(&event);
                // What has scrolled by stays as it is; from here on, columns are as wide as the widest cell so far.
                for (width, cell) in widths.iter_mut().zip(&row) {
                    *width = (*width).max(cell.text.chars().count());
                }
                output.line(&cell::line(&row, &widths, output.is_colored()))?;
                output.flush()?;
            }
            Ok(None) if !args.follow => return Ok(ExitCode::SUCCESS),
            // However skepd ends, in the middle of a line or not.
            Ok(None) | Err(CtlError::Http { .. }) => return Err(CtlError::Left { socket: client.socket().to_owned() }),
            Err(error) => return Err(error),
        }
    }
}

fn row(event: &HistoryEvent) -> Vec<Cell> {
    let HistoryEvent { project, environment, service, deployment, .. } = event;
    let whose = format!("{project}/{environment}/{service}.{deployment}");
    let tone = match event.state.as_str() {
        "ready" | "running" | "succeeded" => Tone::Good,
        "failed" | "unhealthy" => Tone::Bad,
        "superseded" | "stopping" | "stopped" | "exited" => Tone::Dim,
        _ => Tone::Warn,
    };
    vec![
        Cell::new(local_time(event.time_ms)).tone(Tone::Dim),
        Cell::new(event.replica.map_or_else(|| whose.clone(), |replica| format!("{whose}.{replica}"))),
        Cell::new(&event.state).tone(tone),
        Cell::new(event.message.as_deref().unwrap_or_default()),
    ]
}
