use std::io::{IsTerminal as _, stderr, stdin};
use std::process::ExitCode;

use dataplane::api::types::{Prunable, Prune, PruneRow};

use crate::cell::Cell;
use crate::cli::{Global, PruneArgs};
use crate::client::Client;
use crate::error::CtlError;
use crate::output::Output;

const HEADER: [&str; 3] = ["KIND", "NAME", "WHY"];

/// `prune`.
pub(crate) async fn prune(global: &Global, args: &PruneArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    let client = Client::new(global);
    let asked = Prune { dry_run: args.dry_run, volumes: args.volumes, keep: args.keep };
    if args.volumes && !args.dry_run && !args.yes {
        let rows: Vec<PruneRow> = client.post("/v1/prune", &Prune { dry_run: true, ..asked }).await?;
        if rows.iter().any(|row| row.kind == Prunable::Volume) {
            show(&rows, output)?;
            output.flush()?;
            if !confirmed(output)? {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    let rows: Vec<PruneRow> = client.post("/v1/prune", &asked).await?;
    show(&rows, output)?;
    Ok(ExitCode::SUCCESS)
}

fn show(rows: &[PruneRow], output: &mut Output) -> Result<(), CtlError> {
    if rows.is_empty() && !output.is_json() {
        output.note("Nothing to remove.");
        return Ok(());
    }
    output.list(&HEADER, rows, |row| vec![Cell::new(row.kind), Cell::new(&row.name), Cell::new(&row.why)])
}

/// Whether a person says so; where there is none, --yes must.
fn confirmed(output: &mut Output) -> Result<bool, CtlError> {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return Err(CtlError::Unconfirmed);
    }
    output.note("Remove all of this? The data in the volumes is lost. [y/N]");
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    let is_yes = matches!(answer.trim(), "y" | "Y" | "yes");
    if !is_yes {
        output.note("Nothing was removed.");
    }
    Ok(is_yes)
}
