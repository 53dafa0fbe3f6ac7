//! Whether one reaches the other: the programs' own decisions, run over the pinned maps.

mod container;
mod destination;
mod frame;
mod host;
mod notes;
mod report;
mod source;

use std::collections::BTreeSet;
use std::process::ExitCode;

use dataplane::bpf::{Maps, View};
use dataplane_ebpf::abi::{
    Addr, BackendKey, Backends, Endpoint, GrantKey, Listed, Node, NodeConfig, ServiceKey, flags,
};
use dataplane_ebpf::decide::grant::grant;
use dataplane_ebpf::decide::{self, socket};
use dataplane_ebpf::tables::Tables;

use self::destination::Destination;
use self::host::PinnedHost;
use self::report::{BackendRow, PacketReport, Report, SocketReport, TunnelReport};
use self::source::Source;
use crate::cli::{Global, WhyArgs};
use crate::client::Client;
use crate::directory::Directory;
use crate::drops;
use crate::error::CtlError;
use crate::output::Output;
use crate::pins;
use crate::scope::Scope;

/// `why`: it does not get there.
const DROPPED: u8 = 4;
/// How many drops are shown: the last ones.
const DROPS: usize = 5;

/// `why`.
pub(crate) async fn explain(global: &Global, args: &WhyArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    let maps = pins::open(global)?;
    let directory = Directory::read(&maps).await?;
    let client = Client::new(global);
    let source = match Source::find(global, &args.source, &maps, &directory) {
        Err(error @ CtlError::Unknown { .. }) => {
            return Err(notes::absent(&client, &Scope::new(global)?, &args.source).await.unwrap_or(error));
        }
        found => found?,
    };
    let destination = Destination::find(global, args, &source, &maps, &directory).await?;
    let mut report = decide(&maps, &directory, &source, &destination).await?;
    // What is asked of the cluster's DNS address beside names of the zone is the forwarder's, too.
    let dns = maps.node()?.dns;
    if destination.is_outside || destination.address == dns && destination.port.is_some() {
        report.forwarder = notes::forwarder(dns).await;
        report.reaches &= report.forwarder.is_none() || !destination.is_outside;
    }
    let sides: BTreeSet<u32> =
        [Some(source.device.identity), destination.identity].into_iter().flatten().map(|of| of.service).collect();
    for service in sides.into_iter().filter_map(|id| directory.service(id)) {
        report.replicas.extend(notes::ill(&client, service).await);
    }
    if output.is_json() { output.json(&report) } else { report.print(output) }?;
    Ok(if report.reaches { ExitCode::SUCCESS } else { ExitCode::from(DROPPED) })
}

async fn decide(
    maps: &Maps,
    directory: &Directory,
    source: &Source,
    destination: &Destination,
) -> Result<Report, CtlError> {
    let view = maps.view()?;
    let socket = socket_call(&view, source, destination);
    let on_the_wire = match &socket {
        Some(decision) => match decision.verdict() {
            socket::Verdict::ToBackend(choice) => Some(choice.backend),
            socket::Verdict::Pass => Some(destination.address),
            socket::Verdict::Refuse(_) | socket::Verdict::Deny(_) => None,
        },
        None => Some(destination.address),
    };
    let socket = socket.map(|decision| SocketReport::new(&decision, destination.port));
    let packet = match on_the_wire {
        Some(address) => Some(packet(&view, directory, source, destination, address).await?),
        // A call that fails sends nothing.
        None => None,
    };
    let mut drops = drops::lines(maps, directory)?;
    let concerned = [Some(source.device.identity), destination.identity].map(|identity| identity.map(|it| it.service));
    drops.retain(|row| concerned.contains(&Some(row.service_id)) && !row.text.is_routine());
    drops.truncate(DROPS);
    Ok(Report {
        source: source.to_string(),
        source_ids: source.ids(),
        destination: destination.to_string(),
        destination_ids: destination.ids(),
        reaches: packet.as_ref().is_some_and(|packet| packet.reaches),
        rule: rule(&view, source, destination),
        resolves: destination.resolves,
        forwarder: None,
        socket,
        packet,
        backends: backends(maps, source, destination)?,
        drops,
        replicas: Vec::new(),
    })
}

/// What connect(2) or sendto(2) is told; a ping has no such call.
fn socket_call(view: &View<'_>, source: &Source, destination: &Destination) -> Option<socket::Decision> {
    let attempt = socket::Attempt {
        cookie: source.cookie?,
        protocol: destination.protocol.number(destination.address),
        addr: destination.address,
        port: destination.port?.to_be(),
        // Any backend will do: they are all alike.
        random: 0,
    };
    Some(socket::connect(view, &attempt, |_, _| None))
}

/// What becomes of the first packet.
async fn packet(
    view: &View<'_>,
    directory: &Directory,
    source: &Source,
    destination: &Destination,
    address: Addr,
) -> Result<PacketReport, CtlError> {
    let octets = frame::first(&source.device, address, destination)?;
    let host = PinnedHost::new(&source.device, source.ifindex, address).await;
    let frame = decide::Frame { ifindex: source.ifindex, ingress_ifindex: source.ifindex, ..decide::Frame::default() };
    let mut work = decide::Workspace::default();
    let decision = decide::from_container(view, &host, &frame, &octets.as_slice(), &mut work);
    Ok(PacketReport::new(&decision.verdict, address, directory, tunnel(view, &address)))
}

/// The way to the address, if a replica of another node has it.
fn tunnel(view: &View<'_>, address: &Addr) -> Option<TunnelReport> {
    let (mut endpoint, mut way) = (Endpoint::default(), Node::default());
    let remote = view.endpoint(address, &mut endpoint).unwrap_or(false) && endpoint.ifindex == 0;
    let known = remote && view.way(endpoint.node, &mut way).unwrap_or(false);
    remote.then(|| TunnelReport::new(endpoint.node, known.then_some(way)))
}

/// Which rule is behind it, in words.
fn rule(view: &View<'_>, source: &Source, destination: &Destination) -> String {
    let own = source.device.identity;
    let address = destination.address;
    let port = destination.port.unwrap_or(0).to_be();
    let is_ours = |node: &NodeConfig| node.is_container(&address) || node.is_vip(&address);
    match destination.identity {
        Some(identity) if identity.env == own.env && destination.networks & source.device.networks != 0 => {
            "same environment, shared network".to_owned()
        }
        Some(identity) => {
            let protocol = destination.protocol.number(address);
            match grant(view, &GrantKey { source: own, destination: identity, port, protocol, pad: 0 }) {
                Ok(Some(grant)) => format!("grant {}", grant.rule),
                _ => "none: what is not shared is closed".to_owned(),
            }
        }
        None if view.node().is_some_and(|node| node.dns == address) => "every replica may ask".to_owned(),
        None if view.node().is_some_and(is_ours) => "none: nobody has that address".to_owned(),
        None => match (view.egress(&address), flags::list(source.device.flags)) {
            (Some(rule), 0) => format!("egress {}", rule.rule),
            (Some(rule), list) => match view.listed(&Listed { service: own.service, list, addr: address }) {
                Some(listed) => format!("egress {}, and x-skep.egress, line {} of its list", rule.rule, listed.rule),
                None => format!("egress {}, but nothing in x-skep.egress", rule.rule),
            },
            (None, _) => "none: no egress rule".to_owned(),
        },
    }
}

/// Where the VIP may lead.
fn backends(maps: &Maps, source: &Source, destination: &Destination) -> Result<Vec<BackendRow>, CtlError> {
    let key = ServiceKey { env: source.device.identity.env, vip: destination.address };
    let Some(service) = maps.services.get(&key)? else { return Ok(Vec::new()) };
    let set = Backends::from_word(service.backends);
    let mut rows = Vec::new();
    for slot in 0..u32::from(set.count) {
        let key = BackendKey { service: service.service, generation: set.generation, slot };
        let backend = maps.backends.get(&key)?;
        rows.extend(backend.map(|backend| BackendRow::new(&backend, slot < u32::from(set.local))));
    }
    Ok(rows)
}
