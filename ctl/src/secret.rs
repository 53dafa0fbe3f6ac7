use std::process::ExitCode;

use dataplane::api::types::{Rotate, SecretRow};

use crate::cell::{Cell, Tone};
use crate::cli::{Global, SecretsCommand};
use crate::client::Client;
use crate::deployment::ask;
use crate::error::CtlError;
use crate::output::Output;
use crate::scope::Scope;
use crate::typed;

const HEADER: [&str; 7] = ["PROJECT", "ENVIRONMENT", "SERVICE", "VERSION", "VOLUME", "STATE", "VARIABLES"];

/// `secrets`.
pub(crate) async fn run(global: &Global, command: &SecretsCommand, output: &mut Output) -> Result<ExitCode, CtlError> {
    match command {
        SecretsCommand::List => list(global, output).await,
        SecretsCommand::Rotate { service, wait } => {
            ask(global, service, "rotate", &Rotate::default(), wait, output).await
        }
        SecretsCommand::Set { service, wait } => {
            let password = typed::new_password(&format!("New password of {service}: "))?;
            ask(global, service, "rotate", &Rotate { password: Some(password) }, wait, output).await
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
