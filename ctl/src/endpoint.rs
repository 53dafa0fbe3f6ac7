use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use dataplane::api::types::EndpointRow;
use dataplane::bpf::Maps;
use dataplane_ebpf::abi::{Addr, Backends, Device, flags};

use crate::cell::{Cell, Tone};
use crate::cli::Global;
use crate::client::Client;
use crate::directory::Directory;
use crate::error::CtlError;
use crate::map::{bits, mac};
use crate::output::Output;
use crate::pins;
use crate::scope::Scope;

const HEADER: [&str; 12] = [
    "PROJECT",
    "ENVIRONMENT",
    "SERVICE",
    "REPLICA",
    "NODE",
    "ADDRESS",
    "ADDRESS6",
    "INTERFACE",
    "MAC",
    "NETWORKS",
    "EGRESS",
    "BACKEND",
];

/// `endpoints`.
pub(crate) async fn list(global: &Global, output: &mut Output) -> Result<ExitCode, CtlError> {
    let scope = Scope::new(global)?;
    let answer = Client::new(global).get::<Vec<EndpointRow>>(&scope.query("/v1/endpoints")).await;
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

fn row(endpoint: &EndpointRow) -> Vec<Cell> {
    let yes_no = |yes| if yes { Cell::new("yes") } else { Cell::new("no").tone(Tone::Dim) };
    vec![
        Cell::new(&endpoint.project),
        Cell::new(&endpoint.environment),
        Cell::new(&endpoint.service),
        Cell::new(endpoint.replica),
        Cell::new(&endpoint.node),
        Cell::new(&endpoint.address),
        Cell::new(&endpoint.address6),
        Cell::new(&endpoint.interface),
        Cell::new(&endpoint.mac),
        Cell::new(endpoint.networks.join(",")),
        yes_no(endpoint.egress),
        yes_no(endpoint.backend),
    ]
}

/// The endpoints of this node, which are those that have a device.
async fn from_maps(maps: &Maps, scope: &Scope) -> Result<Vec<EndpointRow>, CtlError> {
    let directory = Directory::read(maps).await?;
    let backends = current_backends(maps)?;
    let node = maps.node()?.node;
    let mut rows = Vec::new();
    for (ifindex, device) in maps.devices.entries()? {
        let serves = backends.get(&address4(&device)).is_some_and(|service| *service == device.identity.service);
        let row = endpoint(&directory, ifindex, &device, node, serves);
        rows.extend(Some(row).filter(|row| scope.contains(&row.project, &row.environment)));
    }
    rows.sort_by(|a, b| {
        (&a.project, &a.environment, &a.service, a.replica).cmp(&(&b.project, &b.environment, &b.service, b.replica))
    });
    Ok(rows)
}

fn endpoint(directory: &Directory, ifindex: u32, device: &Device, node: u32, backend: bool) -> EndpointRow {
    let service = directory.service(device.identity.service);
    let veth = directory.veth(ifindex);
    EndpointRow {
        project: service.map_or_else(String::new, |entry| entry.project.clone()),
        environment: service.map_or_else(|| device.identity.env.to_string(), |entry| entry.environment.clone()),
        service: service.map_or_else(|| device.identity.service.to_string(), |entry| entry.service.clone()),
        replica: directory.replica(ifindex).unwrap_or(0),
        node: node.to_string(),
        address: address4(device).to_string(),
        address6: device.address6.to_string(),
        interface: veth.map_or_else(|| ifindex.to_string(), |veth| veth.name.clone()),
        mac: mac(device.mac),
        networks: bits(device.networks).iter().map(ToString::to_string).collect(),
        egress: device.flags & flags::EGRESS != 0,
        backend,
    }
}

fn address4(device: &Device) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(u32::from_be(device.address4)))
}

/// IPv4 addresses that VIPs lead to now → service id.
fn current_backends(maps: &Maps) -> Result<BTreeMap<IpAddr, u32>, CtlError> {
    let mut current = BTreeMap::new();
    for (_, service) in maps.services.entries()? {
        let set = Backends::from_word(service.backends);
        current.insert(service.service, set);
    }
    let mut addresses = BTreeMap::new();
    for (key, backend) in maps.backends.entries()? {
        let set = current.get(&key.service).copied().unwrap_or_default();
        if set.generation == key.generation && key.slot < u32::from(set.count) {
            addresses.insert(Addr::from_v4_word(backend.address4).to_ip(), key.service);
        }
    }
    Ok(addresses)
}
