//! One replica's network namespace with the socket programs, and another with servers, on a plain veth pair.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use dataplane::bpf::{self, Generations, MapSizes, Maps, Pins, Programs, ServiceVips};
use dataplane_ebpf::abi::{Addr, Identity, Netns, NodeConfig, Pool};
use tests::bpffs::Bpffs;
use tests::cgroup::Cgroup;
use tests::netns::Namespace;

/// The port that every server listens on.
pub(crate) const PORT: u16 = 7000;
/// The replica that calls.
pub(crate) const CALLER: Identity = Identity { env: 7, service: 70 };
/// The networks that it is in.
pub(crate) const NETWORKS: u64 = 0b011;
/// Sizes that are quickly made.
pub(crate) const SIZES: MapSizes = MapSizes { local: 64, endpoints: 4_096, services: 256, rules: 64, flows: 64 };

pub(crate) const CALLER4: Ipv4Addr = Ipv4Addr::new(10, 208, 0, 2);
pub(crate) const CALLER6: Ipv6Addr = Ipv6Addr::new(0xfd53, 0x6b65, 0x7000, 0, 0, 0, 0, 2);
pub(crate) const DNS: Ipv4Addr = Ipv4Addr::new(10, 224, 0, 53);

/// IPv4, IPv6, and IPv4 by an IPv6 socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    V4,
    V6,
    Mapped,
}

impl Family {
    /// Address `host` of a block: of the VIPs, or of the replicas.
    pub(crate) fn of(self, v4: Ipv4Addr, v6: Ipv6Addr) -> IpAddr {
        match self {
            Self::V4 => v4.into(),
            Self::V6 => v6.into(),
            Self::Mapped => v4.to_ipv6_mapped().into(),
        }
    }

    pub(crate) fn vip(self, host: u8) -> IpAddr {
        self.of(Ipv4Addr::new(10, 224, 1, host), Ipv6Addr::new(0xfd53, 0x6b65, 0x7001, 0, 0, 0, 1, host.into()))
    }
}

/// Everything that a call needs, and nothing of the rest of the machine.
pub(crate) struct World {
    pub(crate) maps: Maps,
    pub(crate) programs: Programs,
    pub(crate) generations: Generations,
    pub(crate) caller: Namespace,
    pub(crate) servers: Namespace,
    pub(crate) cgroup: Cgroup,
    pub(crate) pins: Pins,
    _bpffs: Bpffs,
}

impl World {
    /// Loads the programs, attached to nothing, and nothing is in the maps.
    pub(crate) fn unattached() -> Result<Self> {
        let bpffs = Bpffs::new()?;
        let cgroup = Cgroup::new(&bpf::find_cgroup2_root()?)?;
        let pins = Pins::new(&bpffs.path());
        let (programs, maps) = Programs::load_or_adopt(&pins, &SIZES, cgroup.path())?;
        let (caller, servers) = (Namespace::new()?, Namespace::new()?);
        wire(&caller, &servers)?;
        Ok(Self { maps, programs, generations: Generations::default(), caller, servers, cgroup, pins, _bpffs: bpffs })
    }

    /// Writes NETNS for the caller.
    pub(crate) fn tell_who_calls(&self, flags: u32) -> Result<()> {
        let value = Netns {
            networks: NETWORKS,
            identity: CALLER,
            address6: CALLER6.into(),
            address4: Addr::from(CALLER4).v4_word(),
            flags,
            seal: 0,
        };
        Ok(self.maps.netns.put(&self.caller.cookie()?, value)?)
    }

    /// Runs `work` as the caller: in its network namespace, with sockets of its cgroup.
    pub(crate) fn as_caller<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.caller.enter(|| {
            self.cgroup.join()?;
            work()
        })
    }
}

pub(crate) fn service(host: u8, networks: u64) -> ServiceVips {
    let vips = vec![Family::V4.vip(host).into(), Family::V6.vip(host).into()];
    ServiceVips { env: CALLER.env, service: 1000 + u32::from(host), vips, networks, flags: 0 }
}

pub(crate) fn node() -> NodeConfig {
    NodeConfig {
        container_pools: [
            Pool::new(Ipv4Addr::new(10, 208, 0, 0).into(), 12),
            Pool::new(Ipv6Addr::new(0xfd53, 0x6b65, 0x7000, 0, 0, 0, 0, 0).into(), 48),
        ],
        vip_pools: [
            Pool::new(Ipv4Addr::new(10, 224, 0, 0).into(), 16),
            Pool::new(Ipv6Addr::new(0xfd53, 0x6b65, 0x7001, 0, 0, 0, 0, 0).into(), 64),
        ],
        dns: DNS.into(),
        mark_mask: 0x0f00_0000,
        host_mark: 0x0600_0000,
        pass_mark: 0x0500_0000,
        node: 1,
        ..NodeConfig::default()
    }
}

/// A veth pair, and routes for everything through it.
fn wire(caller: &Namespace, servers: &Namespace) -> Result<()> {
    caller.run(&format!("ip link add eth0 type veth peer name eth0 netns {}", servers.path().display()))?;
    for (namespace, v4, v6) in
        [(caller, "10.208.0.2", "fd53:6b65:7000::2"), (servers, "10.208.0.1", "fd53:6b65:7000::1")]
    {
        namespace.run("ip link set lo up")?;
        namespace.run("ip link set eth0 addrgenmode none up")?;
        namespace.run(&format!("ip addr add {v4}/12 dev eth0"))?;
        namespace.run(&format!("ip addr add {v6}/48 dev eth0 nodad"))?;
        namespace.run("ip route add default dev eth0")?;
        namespace.run("ip -6 route add default dev eth0")?;
    }
    Ok(())
}
