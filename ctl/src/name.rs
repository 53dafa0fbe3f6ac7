use std::process::ExitCode;

use dataplane::agent::names::text_name;
use dataplane::api::types::NameRow;
use dataplane::bpf::Maps;
use dataplane_ebpf::abi::Addr;

use crate::cell::Cell;
use crate::cli::Global;
use crate::client::Client;
use crate::directory::Directory;
use crate::error::CtlError;
use crate::map::bits;
use crate::output::Output;
use crate::pins;
use crate::scope::Scope;

const HEADER: [&str; 7] = ["PROJECT", "ENVIRONMENT", "NAME", "SERVICE", "VIP", "VIP6", "NETWORKS"];

/// `names`.
pub(crate) async fn list(global: &Global, output: &mut Output) -> Result<ExitCode, CtlError> {
    let scope = Scope::new(global)?;
    let answer = Client::new(global).get::<Vec<NameRow>>(&scope.query("/v1/names")).await;
    let rows = match answer {
        Err(error) if error.is_unreachable() => {
            output.note(&format!("{error}; this is from the maps: networks are bit numbers."));
            from_maps(&pins::open(global)?, &scope).await?
        }
        answer => answer?,
    };
    output.list(&HEADER, &rows, row)?;
    Ok(ExitCode::SUCCESS)
}

fn row(name: &NameRow) -> Vec<Cell> {
    vec![
        Cell::new(&name.project),
        Cell::new(&name.environment),
        Cell::new(&name.name),
        Cell::new(&name.service),
        Cell::new(&name.vip),
        Cell::new(&name.vip6),
        Cell::new(name.networks.join(",")),
    ]
}

async fn from_maps(maps: &Maps, scope: &Scope) -> Result<Vec<NameRow>, CtlError> {
    let directory = Directory::read(maps).await?;
    let mut rows = Vec::new();
    for (key, name) in maps.names.entries()? {
        let (project, environment) = directory.environment_key(key.env).unwrap_or_default();
        if !scope.contains(project, environment) {
            continue;
        }
        let vip = Addr::from_v4_word(name.vip4);
        let service = directory.services().find(|entry| entry.identity.env == key.env && entry.vips.contains(&vip));
        let text = text_name(&key.name);
        // Of a replica, which has no virtual address: 2.web.internal.
        let of_replica = || text.split('.').nth(1).unwrap_or_default().to_owned();
        rows.push(NameRow {
            project: project.to_owned(),
            environment: environment.to_owned(),
            service: service.map_or_else(of_replica, |entry| entry.service.clone()),
            name: text,
            vip: vip.to_string(),
            vip6: name.vip6.to_string(),
            networks: bits(name.networks).iter().map(ToString::to_string).collect(),
        });
    }
    rows.sort_by(|a, b| (&a.project, &a.environment, &a.name).cmp(&(&b.project, &b.environment, &b.name)));
    Ok(rows)
}
