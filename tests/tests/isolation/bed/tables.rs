//! What the maps hold, from the declared services; as far as there is a function for it, the product's own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use dataplane::agent::names::{full_name, names, wire_name};
use dataplane::agent::tables::{Registration, egress_rules};
use dataplane::bpf::{BackendAddress, Generations, Maps, ServiceVips};
use dataplane::config::marks;
use dataplane::model::spec::{RestartPolicy, ServiceSpec};
use dataplane::model::{EnvironmentKey, ReplicaAssignment, ServiceAssignment, ServiceKey};
use dataplane::netlink::Netlink;
use dataplane_ebpf::abi::{Addr, Identity, Name, NameKey, NodeConfig, Pool, Ptr, PtrKey};

use super::{Bed, Replica, ipv6};
use crate::model::Service;

/// The cluster DNS address.
pub(crate) const DNS: Ipv4Addr = Ipv4Addr::new(10, 224, 0, 53);
/// The container pool.
pub(super) const CONTAINERS6: Ipv6Addr = Ipv6Addr::new(0xfd53, 0x6b65, 0x7000, 0, 0, 0, 0, 0);
const CONTAINERS4: Ipv4Addr = Ipv4Addr::new(10, 208, 0, 0);
const VIPS4: Ipv4Addr = Ipv4Addr::new(10, 224, 0, 0);
const VIPS6: Ipv6Addr = Ipv6Addr::new(0xfd53, 0x6b65, 0x7001, 0, 0, 0, 0, 0);
const NODE_ID: u32 = 1;
/// Replicas in these networks may not leave; everybody else may.
const INTERNAL: [&str; 1] = ["back"];

pub(super) fn vips(service: usize) -> (Ipv4Addr, Ipv6Addr) {
    // 53 is the DNS address.
    let host = 100 + u8::try_from(service).unwrap_or(u8::MAX);
    (Ipv4Addr::from_bits(VIPS4.to_bits() | u32::from(host)), ipv6(VIPS6, host))
}

/// Ids as the store gives them: environments and services counted from 1.
pub(super) fn identity(services: &[Service], service: usize) -> Identity {
    let environments: BTreeSet<_> = services.iter().map(|service| (service.project, service.environment)).collect();
    let own = (services[service].project, services[service].environment);
    let env = environments.iter().take_while(|environment| **environment < own).count() + 1;
    Identity { env: u32::try_from(env).unwrap_or(u32::MAX), service: u32::try_from(service + 1).unwrap_or(u32::MAX) }
}

/// The bits are the same in all environments: only the environment keeps them apart.
fn networks(service: &Service) -> u64 {
    let bit = |network: &&str| if *network == "front" { 1 } else { 2 };
    service.networks.iter().map(bit).sum()
}

fn service_key(service: &Service) -> ServiceKey {
    let environment = EnvironmentKey { project: service.project.into(), environment: service.environment.into() };
    ServiceKey { environment, service: service.name.into() }
}

pub(super) fn write_node(maps: &Maps, uplink: u32) -> anyhow::Result<()> {
    let mut config = NodeConfig {
        container_pools: [Pool::new(CONTAINERS4.into(), 12), Pool::new(CONTAINERS6.into(), 48)],
        vip_pools: [Pool::new(VIPS4.into(), 16), Pool::new(VIPS6.into(), 64)],
        dns: DNS.into(),
        host_mark: marks::HOST,
        pass_mark: marks::PASS,
        mark_mask: marks::MASK,
        epoch: 1,
        node: NODE_ID,
        ..NodeConfig::default()
    };
    config.uplinks[0] = uplink;
    maps.set_node(&config)?;
    Ok(maps.set_egress(&egress_rules(&BTreeSet::new()).into_iter().collect::<Vec<_>>())?)
}

/// The host's own routes and addresses.
pub(super) async fn prepare_host() -> anyhow::Result<()> {
    let netlink = Netlink::connect()?;
    let pools = ["10.208.0.0/12", "10.224.0.0/16", "fd53:6b65:7000::/48", "fd53:6b65:7001::/64"];
    let pools = pools.iter().map(|pool| pool.parse()).collect::<Result<Vec<_>, _>>()?;
    netlink.ensure_unreachable(&pools).await?;
    Ok(netlink.ensure_loopback_address(DNS).await?)
}

/// DEVICES, NETNS and ENDPOINTS of a replica.
pub(super) fn register(bed: &Bed, replica: &Replica) -> anyhow::Result<()> {
    let declared = &bed.services[replica.service];
    let (vip4, vip6) = vips(replica.service);
    let assignment = ReplicaAssignment {
        key: service_key(declared).replica(1, replica.number),
        node: "bed".to_owned(),
        env: replica.identity.env,
        service_id: replica.identity.service,
        address4: replica.veth.address4,
        address6: replica.veth.address6,
        vip4,
        vip6,
        networks: networks(declared),
        egress: declared.networks.iter().any(|network| !INTERNAL.contains(network)),
        spec: nothing_to_run(),
        image: None,
        ending: false,
    };
    let registration = Registration::new(&assignment, NODE_ID, replica.ifindex, replica.cookie);
    bed.maps.devices.put(&registration.device.0, registration.device.1)?;
    bed.maps.netns.put(&registration.netns.0, registration.netns.1)?;
    for (address, endpoint) in registration.endpoints {
        bed.maps.endpoints.put(&address, endpoint)?;
    }
    Ok(())
}

/// SERVICES, BACKENDS, NAMES and PTRS of a service.
pub(super) fn publish(bed: &Bed, service: usize) -> anyhow::Result<()> {
    let declared = &bed.services[service];
    let Identity { env, service: id } = identity(&bed.services, service);
    let (vip4, vip6) = vips(service);
    let networks = networks(declared);
    let key = service_key(declared);
    let assignment = ServiceAssignment {
        key,
        env,
        id,
        vip4,
        vip6,
        networks,
        aliases: BTreeMap::new(),
        deployment: 1,
        next: None,
        leaving: false,
        spec: nothing_to_run(),
    };
    set_backends(bed, service, |_| true)?;
    for (name, networks) in names(&assignment) {
        let Some((name, _)) = wire_name(&name) else { anyhow::bail!("{name} is no name") };
        let value = Name { networks, vip4: Addr::from(vip4).v4_word(), vip6: vip6.into(), ..Name::default() };
        bed.maps.names.put(&NameKey { env, name }, value)?;
    }
    let Some((name, len)) = wire_name(&full_name(&assignment.key)) else { anyhow::bail!("no name") };
    for address in [IpAddr::from(vip4), vip6.into()] {
        let value = Ptr { networks, name, len, pad: 0, seal: 0 };
        bed.maps.ptrs.put(&PtrKey { env, addr: address.into() }, value)?;
    }
    Ok(())
}

/// A replica's way out of BACKENDS and ENDPOINTS.
pub(super) fn withdraw(bed: &Bed, replica: &Replica) -> anyhow::Result<()> {
    set_backends(bed, replica.service, |other| other.number != replica.number)?;
    for ipv6 in [false, true] {
        bed.maps.endpoints.delete(&replica.address(ipv6).into())?;
    }
    Ok(())
}

/// Makes the replicas of `service` that `serve` its backends.
fn set_backends(bed: &Bed, service: usize, serve: impl Fn(&Replica) -> bool) -> anyhow::Result<()> {
    let Identity { env, service: id } = identity(&bed.services, service);
    let (vip4, vip6) = vips(service);
    let networks = networks(&bed.services[service]);
    let serving = bed.replicas.iter().filter(|replica| replica.service == service && serve(replica));
    let backends: Vec<_> = serving.map(backend).collect();
    let vips = ServiceVips { env, service: id, vips: vec![vip4.into(), vip6.into()], networks, flags: 0 };
    Generations::default().switch(&bed.maps, &vips, &backends, Instant::now())?;
    Ok(())
}

fn backend(replica: &Replica) -> BackendAddress {
    let (address4, address6) = (Addr::from(replica.veth.address4), replica.veth.address6.into());
    BackendAddress { address4, address6, node: NODE_ID, local: true }
}

fn nothing_to_run() -> ServiceSpec {
    ServiceSpec { restart: RestartPolicy::No, ..ServiceSpec::of_image("") }
}
