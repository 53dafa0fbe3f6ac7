use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dataplane::api::types::{Accepted, Deploy, DeploymentRow, Rollback, Scale, Services};
use dataplane::model::name::normalise;
use dataplane::model::{DeploymentState, EnvironmentKey};
use serde::Serialize;

use crate::cell::{Cell, Tone};
use crate::cli::{DeployArgs, FileArgs, Global, HistoryArgs, RollbackArgs, ScaleArgs, WaitArgs};
use crate::client::{Client, encode};
use crate::environment::follow;
use crate::error::CtlError;
use crate::output::Output;
use crate::scope::{self, Scope};

const HEADER: [&str; 10] =
    ["PROJECT", "ENVIRONMENT", "SERVICE", "DEPLOYMENT", "STATE", "SERVES", "AGE", "CUT", "IMAGE", "REASON"];

/// `deployments`: the last one of each service and the one that serves.
pub(crate) async fn list(global: &Global, output: &mut Output) -> Result<ExitCode, CtlError> {
    let rows = rows(global).await?;
    let is_last = |row: &DeploymentRow| {
        let same = |other: &&DeploymentRow| {
            (&other.project, &other.environment, &other.service) == (&row.project, &row.environment, &row.service)
        };
        rows.iter().filter(same).all(|other| other.deployment <= row.deployment)
    };
    let rows: Vec<_> = rows.iter().filter(|row| row.serves || is_last(row)).cloned().collect();
    show(&rows, output)
}

/// `history`.
pub(crate) async fn history(global: &Global, args: &HistoryArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    let rows = scope::of_service(rows(global).await?, args.service.as_deref(), |row| &row.service)?;
    show(&rows, output)
}

async fn rows(global: &Global) -> Result<Vec<DeploymentRow>, CtlError> {
    Client::new(global).get(&Scope::new(global)?.query("/v1/deployments")).await
}

fn show(rows: &[DeploymentRow], output: &mut Output) -> Result<ExitCode, CtlError> {
    output.list(&HEADER, rows, row)?;
    Ok(ExitCode::SUCCESS)
}

fn row(row: &DeploymentRow) -> Vec<Cell> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    vec![
        Cell::new(&row.project),
        Cell::new(&row.environment),
        Cell::new(&row.service),
        Cell::new(row.deployment),
        Cell::new(row.state).tone(tone(row.state)),
        Cell::new(if row.serves { "yes" } else { "" }),
        Cell::new(age(now.saturating_sub(Duration::from_millis(row.created)))),
        Cell::new(row.cut),
        Cell::new(&row.image),
        Cell::new(row.reason.as_deref().unwrap_or_default()),
    ]
}

/// How a state looks.
pub(crate) fn tone(state: DeploymentState) -> Tone {
    match state {
        DeploymentState::Ready => Tone::Good,
        DeploymentState::Failed => Tone::Bad,
        DeploymentState::Superseded => Tone::Dim,
        DeploymentState::Queued | DeploymentState::Deploying => Tone::Warn,
    }
}

/// As `docker ps` has it, shorter.
pub(crate) fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// `deploy`.
pub(crate) async fn deploy(global: &Global, args: &DeployArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    let body = Deploy { image: args.image.clone() };
    ask(global, &args.service, "deploy", &body, &args.wait, output).await
}

/// `rollback`.
pub(crate) async fn rollback(global: &Global, args: &RollbackArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    ask(global, &args.service, "rollback", &Rollback { to: args.to }, &args.wait, output).await
}

/// `scale`.
pub(crate) async fn scale(global: &Global, args: &ScaleArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    ask(global, &args.service, "scale", &Scale { replicas: args.replicas }, &args.wait, output).await
}

/// `stop`, `start`, `restart`.
pub(crate) async fn all(
    global: &Global,
    services: &[String],
    what: &str,
    wait: &WaitArgs,
    output: &mut Output,
) -> Result<ExitCode, CtlError> {
    let key: EnvironmentKey = scope::key(global, &FileArgs::default())?;
    let services = services.iter().map(|service| normalise(service)).collect::<Result<_, _>>()?;
    let path = scope::with(format!("{}/{what}", scope::path(&key)), &[("dry_run", wait.dry_run)]);
    let client = Client::new(global);
    let accepted: Accepted = client.post(&path, &Services { services }).await?;
    follow(&client, &accepted, wait, output).await
}

/// Asks for a change of one service, and follows it.
pub(crate) async fn ask(
    global: &Global,
    service: &str,
    what: &str,
    body: &impl Serialize,
    wait: &WaitArgs,
    output: &mut Output,
) -> Result<ExitCode, CtlError> {
    let key: EnvironmentKey = scope::key(global, &FileArgs::default())?;
    let path = format!("{}/services/{}/{what}", scope::path(&key), encode(&normalise(service)?));
    let path = scope::with(path, &[("dry_run", wait.dry_run)]);
    let client = Client::new(global);
    let accepted: Accepted = client.post(&path, body).await?;
    follow(&client, &accepted, wait, output).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_short() {
        let ages = [5, 119, 120, 7_199, 7_200, 172_800].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["5s", "119s", "2m", "119m", "2h", "2d"]);
    }
}
