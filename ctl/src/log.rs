use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use dataplane::api::types::{LogEvent, LogRow};
use dataplane::model::ReplicaKey;
use tokio::signal::unix::{SignalKind, signal};

use crate::cell::Tone;
use crate::cli::{FileArgs, Global, LogsArgs};
use crate::client::{Client, encode};
use crate::error::CtlError;
use crate::output::Output;
use crate::scope;

/// Replicas are told apart by these.
const TONES: [Tone; 3] = [Tone::Good, Tone::Warn, Tone::Plain];

/// `logs`.
pub(crate) async fn show(global: &Global, args: &LogsArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    let path = path(global, args)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = interrupt.recv() => Ok(ExitCode::SUCCESS),
        ended = show_all(global, args, &path, output) => ended,
    }
}

fn path(global: &Global, args: &LogsArgs) -> Result<String, CtlError> {
    let key = scope::key(global, &FileArgs::default())?;
    let (service, replica) = args.service.clone().map(|meant| (meant.service, meant.replica)).unzip();
    let replica = replica.flatten();
    let since = args.since.map(|ago| SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH));
    let since = since.map(|since| since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    let asked = [
        Some(("project", key.project)),
        Some(("environment", key.environment)),
        service.map(|service| ("service", service)),
        replica.map(|replica| ("replica", replica.to_string())),
        args.follow.then(|| ("follow", "true".to_owned())),
        args.tail.map(|tail| ("tail", tail.to_string())),
        since.map(|since| ("since", since.to_string())),
    ];
    let pairs: Vec<String> =
        asked.into_iter().flatten().map(|(key, value)| format!("{key}={}", encode(&value))).collect();
    Ok(format!("/v1/logs?{}", pairs.join("&")))
}

async fn show_all(global: &Global, args: &LogsArgs, path: &str, output: &mut Output) -> Result<ExitCode, CtlError> {
    let client = Client::new(global);
    let mut lines = client.stream(path).await?;
    let mut width = 0;
    loop {
        match lines.next::<LogEvent>().await {
            Ok(Some(event)) if output.is_json() => output.json_line(&event)?,
            Ok(Some(LogEvent::Line(row))) => {
                let name = name(&row.key);
                // What has scrolled by stays as it is.
                width = width.max(name.len());
                let tone = TONES.get(row.key.replica as usize % TONES.len()).copied().unwrap_or_default();
                let name = tone.paint(&format!("{name:width$} |"), output.is_colored());
                output.line(&format!("{name} {}", text(&row, args.timestamps)))?;
                output.flush()?;
            }
            Ok(Some(LogEvent::Unheard { key, error, remedy })) => {
                output.note(&format!("what {} says is not known: {error}: {remedy}", name(&key)));
            }
            Ok(None) if !args.follow => return Ok(ExitCode::SUCCESS),
            // However skepd ends, in the middle of a line or not.
            Ok(None) | Err(CtlError::Http { .. }) => return Err(CtlError::Left { socket: client.socket().to_owned() }),
            Err(error) => return Err(error),
        }
    }
}

fn name(key: &ReplicaKey) -> String {
    format!("{}.{}", key.service.service, key.replica)
}

fn text(row: &LogRow, timestamps: bool) -> String {
    if timestamps { format!("{} {}", row.time, row.text) } else { row.text.clone() }
}
