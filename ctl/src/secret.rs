use std::process::ExitCode;

use dataplane::api::types::{Accepted, Rotate, SecretRow};
use dataplane::model::name::normalise;

use crate::cell::{Cell, Tone};
use crate::cli::{Global, SecretsCommand, WaitArgs};
use crate::client::{Client, encode};
use crate::environment::follow;
use crate::error::CtlError;
use crate::output::Output;
use crate::scope::{self, Scope};
use crate::typed;

const HEADER: [&str; 7] = ["PROJECT", "ENVIRONMENT", "SERVICE", "VERSION", "VOLUME", "STATE", "VARIABLES"];

/// `secrets`.
pub(crate) async fn run(global: &Global, command: &SecretsCommand, output: &mut Output) -> Result<ExitCode, CtlError> {
    match command {
        SecretsCommand::List => list(global, output).await,
        SecretsCommand::Rotate { service, wait } => change(global, service, None, wait, output).await,
        SecretsCommand::Set { service, wait } => {
            change(global, service, Some(typed::new_password(&format!("New password of {service}: "))?), wait, output)
                .await
        }
    }
}

async fn list(global: &Global, output: &mut Output) -> Result<ExitCode, CtlError> {
    let rows: Vec<SecretRow> = Client::new(global).get(&Scope::new(global)?.query("/v1/secrets")).await?;
    output.list(&HEADER, &rows, row)?;
    Ok(ExitCode::SUCCESS)
}

fn row(secret: &SecretRow) -> Vec<Cell> {
    let consumers = secret.consumers.iter().map(|(service, names)| format!("{service}: {}", names.join(",")));
    vec![
        Cell::new(&secret.project),
        Cell::new(&secret.environment),
        Cell::new(&secret.service),
        Cell::new(secret.version),
        Cell::or_dash(secret.volume.as_deref()),
        match secret.changing {
            true => Cell::new("changing").tone(Tone::Warn),
            false => Cell::new("known").tone(Tone::Good),
        },
        Cell::new(consumers.collect::<Vec<_>>().join("; ")),
    ]
}

async fn change(
    global: &Global,
    service: &str,
    password: Option<String>,
    wait: &WaitArgs,
    output: &mut Output,
) -> Result<ExitCode, CtlError> {
    let key = scope::key(global, None)?;
    let dry = if wait.dry_run { "?dry_run=true" } else { "" };
    let path = format!("{}/services/{}/rotate{dry}", scope::path(&key), encode(&normalise(service)?));
    let client = Client::new(global);
    let accepted: Accepted = client.post(&path, &Rotate { password }).await?;
    follow(&client, &accepted, wait, output).await
}
