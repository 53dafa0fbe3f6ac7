use std::process::ExitCode;

use dataplane::api::types::{ServiceDetail, ServiceRow};
use dataplane::model::name::normalise;

use crate::cell::{Cell, Tone};
use crate::cli::{FileArgs, Global};
use crate::client::{Client, encode};
use crate::error::CtlError;
use crate::output::Output;
use crate::scope::{self, Scope};

const HEADER: [&str; 9] =
    ["PROJECT", "ENVIRONMENT", "SERVICE", "DEPLOYMENT", "RUNNING", "VIP", "VIP6", "NETWORKS", "IMAGE"];

/// `services`.
pub(crate) async fn list(global: &Global, output: &mut Output) -> Result<ExitCode, CtlError> {
    let path = Scope::new(global)?.query("/v1/services");
    let rows: Vec<ServiceRow> = Client::new(global).get(&path).await?;
    output.list(&HEADER, &rows, row)?;
    Ok(ExitCode::SUCCESS)
}

/// `inspect`.
pub(crate) async fn inspect(global: &Global, service: &str, output: &mut Output) -> Result<ExitCode, CtlError> {
    let key = scope::key(global, &FileArgs::default())?;
    let path = format!("{}/services/{}", scope::path(&key), encode(&normalise(service)?));
    let all: ServiceDetail = Client::new(global).get(&path).await?;
    output.json(&all)?;
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
