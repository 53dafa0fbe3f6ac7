use std::process::ExitCode;

use dataplane::api::types::ServiceRow;

use crate::cell::{Cell, Tone};
use crate::cli::Global;
use crate::client::Client;
use crate::error::CtlError;
use crate::output::Output;
use crate::scope::Scope;

const HEADER: [&str; 9] =
    ["PROJECT", "ENVIRONMENT", "SERVICE", "DEPLOYMENT", "RUNNING", "VIP", "VIP6", "NETWORKS", "IMAGE"];

/// `services`.
pub(crate) async fn list(global: &Global, output: &mut Output) -> Result<ExitCode, CtlError> {
    let path = Scope::new(global)?.query("/v1/services");
    let rows: Vec<ServiceRow> = Client::new(global).get(&path).await?;
    output.list(&HEADER, &rows, row)?;
    Ok(ExitCode::SUCCESS)
}

fn row(service: &ServiceRow) -> Vec<Cell> {
    let tone = match service.running {
        running if running >= service.replicas => Tone::Good,
        0 => Tone::Bad,
        _ => Tone::Warn,
    };
    vec![
        Cell::new(&service.project),
        Cell::new(&service.environment),
        Cell::new(&service.service),
        Cell::new(service.deployment),
        Cell::new(format!("{}/{}", service.running, service.replicas)).tone(tone),
        Cell::new(&service.vip),
        Cell::new(&service.vip6),
        Cell::new(service.networks.join(",")),
        Cell::new(&service.image),
    ]
}
