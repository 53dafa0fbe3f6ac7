use std::process::ExitCode;

use dataplane::api::types::{Login, RegistryRow};

use crate::cell::Cell;
use crate::cli::{Global, RegistryCommand};
use crate::client::{Client, encode};
use crate::error::CtlError;
use crate::output::Output;
use crate::typed;

const HEADER: [&str; 2] = ["REGISTRY", "USER"];

/// `registry`.
pub(crate) async fn run(global: &Global, command: &RegistryCommand, output: &mut Output) -> Result<ExitCode, CtlError> {
    let client = Client::new(global);
    let rows: Vec<RegistryRow> = match command {
        RegistryCommand::List => client.get("/v1/registries").await?,
        RegistryCommand::Login { registry, user } => {
            let password = typed::password(&format!("Password or token of {user} at {registry}: "))?;
            vec![client.put(&path(registry), &Login { user: user.clone(), password }).await?]
        }
        RegistryCommand::Logout { registry } => vec![client.delete(&path(registry)).await?],
    };
    output.list(&HEADER, &rows, |row| vec![Cell::new(&row.registry), Cell::new(&row.user)])?;
    Ok(ExitCode::SUCCESS)
}

fn path(registry: &str) -> String {
    format!("/v1/registries/{}", encode(registry))
}
