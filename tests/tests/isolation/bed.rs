//! A node without Docker: containers are network namespaces, plumbed and registered by the product's own code.
//!
//! Everything lives in namespaces of the test's thread and ends with them: no pin, veth or route outlives the process.

mod namespace;
mod surroundings;
mod tables;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::Context as _;
use dataplane::bpf::{MapSizes, Maps, Pins, Programs, drops, find_cgroup2_root};
use dataplane::netlink::{Netlink, Netns, VethSpec};
use dataplane_ebpf::abi::{DropKey, Identity, Reason};
use tests::load::Place;
use tests::netns::Namespace;
use tests::probe::Responder;

use crate::model::Service;

pub(crate) use namespace::{ip, place};
pub(crate) use surroundings::Surroundings;
pub(crate) use tables::DNS;

/// One replica of a service: a namespace with a veth.
pub(crate) struct Replica {
    /// Its service's place in the list.
    pub(crate) service: usize,
    /// 1, 2, 3 …
    pub(crate) number: u32,
    pub(crate) identity: Identity,
    pub(crate) place: Place,
    pub(crate) veth: VethSpec,
    pub(crate) namespace: Namespace,
    ifindex: u32,
    cookie: u64,
}

impl Replica {
    pub(crate) fn address(&self, ipv6: bool) -> IpAddr {
        if ipv6 { self.veth.address6.into() } else { self.veth.address4.into() }
    }
}

/// The node with all its replicas.
pub(crate) struct Bed {
    pub(crate) services: Vec<Service>,
    /// Those of a service beside each other, by number.
    pub(crate) replicas: Vec<Replica>,
    pub(crate) maps: Maps,
    pub(crate) surroundings: Surroundings,
    per_service: u32,
    runtime: tokio::runtime::Runtime,
    programs: Programs,
}

impl Bed {
    /// Turns the calling thread into a node and brings up `per_service` replicas of each service, closed before open:
    /// maps and programs first, then the links.
    pub(crate) fn new(services: Vec<Service>, per_service: u32) -> anyhow::Result<Self> {
        namespace::become_node()?;
        let surroundings = Surroundings::new()?;
        let sizes = MapSizes { local: 64, endpoints: 256, services: 64, ..MapSizes::default() };
        let (programs, maps) = Programs::load_or_adopt(&Pins::new(&bpffs()?), &sizes, &own_cgroup()?)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut bed = Self { services, replicas: Vec::new(), maps, surroundings, per_service, runtime, programs };
        tables::write_node(&bed.maps, bed.surroundings.uplink)?;
        bed.programs.attach_sockets()?;
        bed.runtime.block_on(tables::prepare_host())?;
        for service in 0..bed.services.len() {
            for number in 1..=per_service {
                let replica = bed.add_replica(service, number)?;
                bed.replicas.push(replica);
            }
        }
        for service in 0..bed.services.len() {
            tables::publish(&bed, service)?;
        }
        Ok(bed)
    }

    pub(crate) fn replica(&self, service: usize, number: u32) -> &Replica {
        &self.replicas[service * self.per_service as usize + number as usize - 1]
    }

    /// The first replica of the service called `project/environment/name`.
    pub(crate) fn named(&self, name: &str) -> anyhow::Result<&Replica> {
        let service = self.services.iter().position(|service| service.to_string() == name);
        Ok(self.replica(service.with_context(|| format!("no service {name}"))?, 1))
    }

    pub(crate) fn vip(&self, service: usize, ipv6: bool) -> IpAddr {
        let (vip4, vip6) = tables::vips(service);
        if ipv6 { vip6.into() } else { vip4.into() }
    }

    /// A responder in every replica, named like it.
    pub(crate) fn respond(&self) -> anyhow::Result<Vec<Responder>> {
        let named = |replica: &Replica| format!("{}.{}", self.services[replica.service], replica.number);
        let start = |replica: &Replica| Ok(Responder::start(replica.place.clone(), named(replica))?);
        self.replicas.iter().map(start).collect()
    }

    /// How many packets and sockets of the replica's service were dropped for a reason.
    pub(crate) fn dropped(&self, replica: &Replica, reason: Reason) -> anyhow::Result<u64> {
        let key = DropKey { identity: replica.identity, reason: reason as u32 };
        Ok(self.maps.drops.get(&key)?.iter().map(|record| record.packets).sum())
    }

    /// How many were dropped because they may not go where they were sent. (What a kernel sends on its own account,
    /// multicast reports for one, is dropped for other reasons.)
    pub(crate) fn blocked(&self, replica: &Replica) -> anyhow::Result<u64> {
        use Reason::{NoSharedNetwork, OtherEnvironment, UnknownVip, UntranslatedVip};
        let reasons = [OtherEnvironment, NoSharedNetwork, UnknownVip, UntranslatedVip];
        reasons.into_iter().map(|reason| self.dropped(replica, reason)).sum()
    }

    /// All drops so far, by reason.
    pub(crate) fn drops_line(&self) -> String {
        let mut by_reason: BTreeMap<String, u64> = BTreeMap::new();
        for line in drops(&self.maps).unwrap_or_default() {
            let name = line.reason().map_or_else(|| line.number.to_string(), |reason| reason.to_string());
            *by_reason.entry(name).or_default() += line.packets;
        }
        by_reason.iter().map(|(reason, packets)| format!("{reason} {packets}")).collect::<Vec<_>>().join(", ")
    }

    /// Makes the socket programs see no container any more, only unknown namespaces.
    pub(crate) fn forget_sockets(&self) -> anyhow::Result<()> {
        for replica in &self.replicas {
            self.maps.netns.delete(&replica.cookie)?;
        }
        Ok(())
    }

    /// Takes a replica away as the agent does: out of the backends, then out of the other maps, then the link.
    pub(crate) fn remove(&self, replica: &Replica) -> anyhow::Result<()> {
        tables::withdraw(self, replica)?;
        self.maps.netns.delete(&replica.cookie)?;
        self.maps.devices.delete(&replica.ifindex)?;
        self.programs.detach(replica.ifindex, &replica.veth.name)?;
        let name = &replica.veth.name;
        Ok(self.runtime.block_on(async { Netlink::connect()?.delete_link(name).await })?)
    }

    /// Plumbs a namespace as the container's end of a replica's veth, which must be in it.
    pub(crate) fn plumb(&self, namespace: &Namespace, veth: &VethSpec) -> anyhow::Result<()> {
        let netns = Netns::open(&namespace.path())?;
        Ok(self.runtime.block_on(Netlink::plumb_container(&netns, veth))?)
    }

    fn add_replica(&self, service: usize, number: u32) -> anyhow::Result<Replica> {
        let host = u8::try_from(service * 8)? + u8::try_from(number)? + 1;
        let (address4, address6) = (Ipv4Addr::new(10, 208, 0, host), ipv6(tables::CONTAINERS6, host));
        let veth = VethSpec::new(address4, address6, format!("{}.{number}", self.services[service]), 1500);
        let namespace = Namespace::new()?;
        let netns = Netns::open(&namespace.path())?;
        let (ifindex, cookie) = self.runtime.block_on(async {
            let ifindex = Netlink::connect()?.create_veth(&veth, &netns).await?;
            anyhow::Ok((ifindex, netns.cookie().await?))
        })?;
        let place = place(&namespace)?;
        let identity = tables::identity(&self.services, service);
        let replica = Replica { service, number, identity, place, veth, namespace, ifindex, cookie };
        tables::register(self, &replica)?;
        self.programs.attach(ifindex, &replica.veth.name)?;
        self.runtime.block_on(async {
            Netlink::connect()?.ensure_host_side(&replica.veth).await?;
            anyhow::Ok(Netlink::plumb_container(&netns, &replica.veth).await?)
        })?;
        Ok(replica)
    }
}

/// The `host`th address of an IPv6 pool.
fn ipv6(pool: Ipv6Addr, host: u8) -> Ipv6Addr {
    Ipv6Addr::from_bits(pool.to_bits() | u128::from(host))
}

/// A bpffs of this thread's own mount namespace.
fn bpffs() -> anyhow::Result<PathBuf> {
    // Any directory will do: what is mounted over it is seen by this thread alone.
    let directory = PathBuf::from("/sys/fs/bpf");
    nix::mount::mount(Some("bpf"), &directory, Some("bpf"), nix::mount::MsFlags::empty(), None::<&str>)
        .context("mounting a bpffs")?;
    Ok(directory.join("skep"))
}

/// The cgroup of this process: nobody else pays for the socket programs.
fn own_cgroup() -> anyhow::Result<PathBuf> {
    let lines = fs::read_to_string("/proc/self/cgroup")?;
    let path = lines.lines().find_map(|line| line.strip_prefix("0::")).context("no cgroup v2")?;
    Ok(find_cgroup2_root()?.join(path.trim_start_matches('/')))
}
