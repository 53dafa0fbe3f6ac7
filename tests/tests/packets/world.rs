//! A host in a network namespace of its own, with the packet programs on the veths of four replicas, an uplink to an
//! outside, and another network that is no uplink.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use dataplane::bpf::{self, MapSizes, Maps, Pins, Programs};
use dataplane_ebpf::abi::{
    Addr, Device, EgressKey, EgressRule, Endpoint, Identity, ListKey, Listed, NAME_MAX, Name, NameKey, Node,
    NodeConfig, Pool, Ptr, PtrKey, Service, ServiceKey, action, flags,
};
use tests::netns::Namespace;
use tests::tun::Tun;

/// Where every service listens.
pub(crate) const PORT: u32 = 5432;
/// Where the DNS questions go.
pub(crate) const DNS: Ipv4Addr = Ipv4Addr::new(10, 224, 0, 53);
/// The service `api` of environment 1, in network 0b01.
pub(crate) const VIP4: Ipv4Addr = Ipv4Addr::new(10, 224, 1, 1);
pub(crate) const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd53, 0x6b65, 0x7001, 0, 0, 0, 1, 1);
/// The service `old` of environment 1, in network 0b01; it has no IPv6.
pub(crate) const OLD4: Ipv4Addr = Ipv4Addr::new(10, 224, 1, 2);
/// The service `hidden` of environment 1, in network 0b10.
pub(crate) const HIDDEN4: Ipv4Addr = Ipv4Addr::new(10, 224, 1, 3);
/// Reachable by the uplink.
pub(crate) const OUTSIDE4: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 9);
pub(crate) const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2a00, 0x5ce9, 0, 0, 0, 0, 0, 9);
/// Reachable by a device that is no uplink.
pub(crate) const ASIDE4: Ipv4Addr = Ipv4Addr::new(12, 0, 0, 9);
/// An address of the host itself.
pub(crate) const HOST4: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 1);
/// A private network that only D may go to: it lists it. There is no route.
pub(crate) const LISTED4: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 0);
/// The host's routing table has a hole here.
pub(crate) const NOWHERE4: Ipv4Addr = Ipv4Addr::new(13, 0, 0, 9);

/// One replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Replica {
    pub(crate) host: u8,
    pub(crate) identity: Identity,
    pub(crate) networks: u64,
    pub(crate) flags: u32,
}

/// In environment 1, network 0b01, with a way out.
pub(crate) const A: Replica = replica(2, 1, 10, 0b01, flags::EGRESS);
/// In environment 1, both networks, without a way out.
pub(crate) const B: Replica = replica(3, 1, 11, 0b11, 0);
/// In environment 1, network 0b10: shares none with A.
pub(crate) const C: Replica = replica(4, 1, 12, 0b10, 0);
/// In environment 2, with a way out to what it lists.
pub(crate) const D: Replica = replica(5, 2, 20, 0b01, flags::EGRESS | flags::of_list(D_LIST));
const D_LIST: u16 = 3;
/// The replicas of this node.
pub(crate) const REPLICAS: [Replica; 4] = [A, B, C, D];
/// In environment 1, network 0b01, on another node.
pub(crate) const REMOTE: Replica = replica(6, 1, 13, 0b01, 0);
/// In environment 2, network 0b01, on another node.
pub(crate) const FOREIGN: Replica = replica(7, 2, 21, 0b01, 0);
/// In environment 1, network 0b01, on a node to which there is no tunnel.
pub(crate) const LOST: Replica = replica(8, 1, 14, 0b01, 0);
/// The replicas of other nodes.
pub(crate) const REMOTES: [Replica; 3] = [REMOTE, FOREIGN, LOST];

const fn replica(host: u8, env: u32, service: u32, networks: u64, flags: u32) -> Replica {
    Replica { host, identity: Identity { env, service }, networks, flags }
}

impl Replica {
    pub(crate) const fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 208, 0, self.host)
    }

    pub(crate) const fn v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd53, 0x6b65, 0x7000, 0, 0, 0, 0, self.host as u16)
    }

    pub(crate) const fn mac(&self) -> [u8; 6] {
        [0x02, 0x53, 10, 208, 0, self.host]
    }

    pub(crate) const fn host_mac(&self) -> [u8; 6] {
        [0x06, 0x53, 10, 208, 0, self.host]
    }

    /// Ifindex of the host end of its veth in every [`World`].
    pub(crate) const fn ifindex(&self) -> u32 {
        100 + self.host as u32
    }

    pub(crate) fn ifname(&self) -> String {
        format!("skep0ad000{:02x}", self.host)
    }
}

/// Ifindex of the uplink.
pub(crate) const UPLINK: u32 = 50;
/// Ifindex of the device that is none.
pub(crate) const ASIDE: u32 = 51;

/// Ifindex of the tunnel to the node of [`REMOTE`] and [`FOREIGN`].
pub(crate) const TUNNEL: u32 = 60;
/// Octets of an IP packet that fit through it.
pub(crate) const TUNNEL_MTU: u32 = 1_420;
/// Ids of that node and of the one of [`LOST`].
const FAR: u32 = 2;
const UNREACHED: u32 = 3;

/// Everything that a packet meets.
pub(crate) struct World {
    pub(crate) maps: Maps,
    pub(crate) programs: Programs,
    pub(crate) host: Namespace,
    pub(crate) outside: Namespace,
    /// In the order of [`REPLICAS`].
    pub(crate) containers: Vec<Namespace>,
    /// To the node of [`REMOTE`] and [`FOREIGN`].
    pub(crate) tunnel: Tun,
    _aside: Namespace,
}

impl World {
    /// Plumbs everything, loads the programs and fills the maps. No packet meets the programs yet.
    pub(crate) fn new(pins: &Pins) -> Result<Self> {
        let sizes = MapSizes { local: 64, endpoints: 1_024, services: 256, rules: 256, flows: 65_536 };
        let (programs, maps) = Programs::load_or_adopt(pins, &sizes, &bpf::find_cgroup2_root()?)?;
        let (host, outside, aside) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
        let containers = REPLICAS.iter().map(|_| Namespace::new()).collect::<Result<Vec<_>>>()?;
        let tunnel = host.enter(|| Tun::new("tun0", TUNNEL, TUNNEL_MTU))?;
        let world = Self { maps, programs, host, outside, containers, tunnel, _aside: aside };
        fill(&world.maps)?;
        world.plumb_host()?;
        for (replica, container) in REPLICAS.iter().zip(&world.containers) {
            world.plumb(replica, container)?;
        }
        Ok(world)
    }

    fn plumb_host(&self) -> Result<()> {
        self.host.enter(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").context("IPv6 is off on this machine")
        })?;
        // Who has only a tentative link-local address asks for no neighbour, for up to two seconds.
        for namespace in [&self.host, &self.outside, &self._aside] {
            namespace.enter(|| {
                std::fs::write("/proc/sys/net/ipv6/conf/all/accept_dad", "0")?;
                Ok(std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0")?)
            })?;
        }
        self.host.run("ip link set lo up")?;
        // Nor has a tunnel's device neighbours to look for.
        self.host.run(&format!("ip link set {} addrgenmode none", self.tunnel.name()))?;
        self.host.run(&format!("ip addr add {DNS}/32 dev lo"))?;
        for (index, name, far, v4, v6) in [
            (UPLINK, "up0", &self.outside, "11.0.0", "2a00:5ce9:"),
            (ASIDE, "aside0", &self._aside, "12.0.0", "2a00:5cea:"),
        ] {
            let path = far.path();
            let path = path.display();
            self.host.run(&format!("ip link add {name} index {index} type veth peer name eth0 netns {path}"))?;
            for (namespace, device, host) in [(&self.host, name, 1), (far, "eth0", 9)] {
                namespace.run(&format!("ip link set {device} up"))?;
                namespace.run(&format!("ip addr add {v4}.{host}/24 dev {device}"))?;
                namespace.run(&format!("ip addr add {v6}:{host}/64 dev {device} nodad"))?;
            }
            far.run(&format!("ip route add default via {v4}.1"))?;
            far.run(&format!("ip -6 route add default via {v6}:1"))?;
        }
        Ok(())
    }

    fn plumb(&self, replica: &Replica, container: &Namespace) -> Result<()> {
        let (name, index, path) = (replica.ifname(), replica.ifindex(), container.path());
        let (mac, host_mac) = (mac_text(replica.mac()), mac_text(replica.host_mac()));
        let (v4, v6) = (replica.v4(), replica.v6());
        self.host.run(&format!(
            "ip link add {name} index {index} address {host_mac} type veth peer name eth0 address {mac} netns {}",
            path.display()
        ))?;
        self.host.run(&format!("ip link set {name} addrgenmode none up"))?;
        self.host.run(&format!("ip route add {v4}/32 dev {name}"))?;
        self.host.run(&format!("ip -6 route add {v6}/128 dev {name}"))?;
        self.host.run(&format!("ip neigh add {v4} lladdr {mac} nud permanent dev {name}"))?;
        self.host.run(&format!("ip neigh add {v6} lladdr {mac} nud permanent dev {name}"))?;
        container.run("ip link set lo up")?;
        container.run("ip link set eth0 addrgenmode none up")?;
        container.run(&format!("ip addr add {v4}/32 dev eth0"))?;
        container.run(&format!("ip addr add {v6}/128 dev eth0 nodad"))?;
        container.run("ip route add 169.254.1.1 dev eth0 scope link")?;
        container.run("ip route add default via 169.254.1.1 dev eth0")?;
        container.run("ip -6 route add default via fe80::1 dev eth0")?;
        container.run(&format!("ip neigh add 169.254.1.1 lladdr {host_mac} nud permanent dev eth0"))?;
        container.run(&format!("ip neigh add fe80::1 lladdr {host_mac} nud permanent dev eth0"))?;
        Ok(())
    }
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// What the programs of every [`World`] know.
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
        uplinks: [UPLINK, 0, 0, 0, 0, 0, 0, 0],
        mark_mask: 0x0f00_0000,
        host_mark: 0x0600_0000,
        pass_mark: 0x0500_0000,
        epoch: 1,
        node: 1,
        pad: 0,
    }
}

/// The devices, endpoints, services, names and rules of every [`World`].
pub(crate) struct Entries {
    pub(crate) devices: Vec<(u32, Device)>,
    pub(crate) endpoints: Vec<(Addr, Endpoint)>,
    pub(crate) nodes: Vec<(u32, Node)>,
    pub(crate) services: Vec<(ServiceKey, Service)>,
    pub(crate) names: Vec<(NameKey, Name)>,
    pub(crate) ptrs: Vec<(PtrKey, Ptr)>,
    pub(crate) egress: Vec<(EgressKey, EgressRule)>,
    pub(crate) lists: BTreeMap<ListKey, EgressRule>,
}

pub(crate) fn entries() -> Entries {
    let mut endpoints: Vec<_> = REPLICAS.iter().flat_map(|replica| endpoint(replica, 1, replica.ifindex())).collect();
    let remote = REMOTES.iter().zip([FAR, FAR, UNREACHED]);
    endpoints.extend(remote.flat_map(|(replica, node)| endpoint(replica, node, 0)));
    let service = |env, vip: IpAddr, service, networks| {
        (ServiceKey { env, vip: vip.into() }, Service { networks, service, ..Service::default() })
    };
    let name = |env, text: &str, networks, vip4: Option<Ipv4Addr>, vip6: Option<Ipv6Addr>| {
        let vip4 = vip4.map_or(0, |vip| Addr::from(vip).v4_word());
        let vip6 = vip6.map_or(Addr::NONE, Addr::from);
        (NameKey { env, name: wire_name(text).0 }, Name { networks, vip6, vip4, port: PORT, seal: 0 })
    };
    let ptr = |env, addr: IpAddr, text: &str, networks| {
        let (name, len) = wire_name(text);
        (PtrKey { env, addr: addr.into() }, Ptr { networks, name, len, pad: 0, seal: 0 })
    };
    let api = "api.production.shop.internal";
    Entries {
        devices: REPLICAS.iter().map(|replica| (replica.ifindex(), device(replica))).collect(),
        endpoints,
        nodes: vec![
            (FAR, Node { ifindex: TUNNEL, mtu: TUNNEL_MTU, seal: 0 }),
            (UNREACHED, Node { ifindex: 0, mtu: TUNNEL_MTU, seal: 0 }),
        ],
        services: vec![
            service(1, VIP4.into(), 110, 0b01),
            service(1, VIP6.into(), 110, 0b01),
            service(1, OLD4.into(), 111, 0b01),
            service(1, HIDDEN4.into(), 112, 0b10),
        ],
        names: vec![
            name(1, "api", 0b01, Some(VIP4), Some(VIP6)),
            name(1, "api.internal", 0b01, Some(VIP4), Some(VIP6)),
            name(1, "my-api", 0b01, Some(VIP4), Some(VIP6)),
            name(1, api, 0b01, Some(VIP4), Some(VIP6)),
            name(1, "old", 0b01, Some(OLD4), None),
            name(1, "hidden", 0b10, Some(HIDDEN4), None),
        ],
        ptrs: vec![
            ptr(1, VIP4.into(), api, 0b01),
            ptr(1, VIP6.into(), api, 0b01),
            ptr(1, A.v4().into(), "a.production.shop.internal", 0b01),
            ptr(1, HIDDEN4.into(), "hidden.production.shop.internal", 0b10),
        ],
        egress: egress(),
        lists: lists(),
    }
}

fn fill(maps: &Maps) -> Result<()> {
    let entries = entries();
    maps.devices.put_all(entries.devices)?;
    maps.endpoints.put_all(entries.endpoints)?;
    maps.nodes.put_all(entries.nodes)?;
    maps.services.put_all(entries.services)?;
    maps.names.put_all(entries.names)?;
    maps.ptrs.put_all(entries.ptrs)?;
    maps.set_egress(&entries.egress)?;
    maps.set_egress_lists(&entries.lists)?;
    maps.set_node(&node())?;
    Ok(())
}

/// Everything may be left for but a few ranges; 13.0.0.0/8 is allowed and has no route.
fn egress() -> Vec<(EgressKey, EgressRule)> {
    let rule = |addr: IpAddr, prefix_len: u32, action, rule| {
        let prefix_len = if addr.is_ipv4() { prefix_len + 96 } else { prefix_len };
        (EgressKey { prefix_len, addr: addr.into() }, EgressRule { action, rule })
    };
    vec![
        rule(Ipv6Addr::UNSPECIFIED.into(), 0, action::ALLOW, 1),
        rule(Ipv4Addr::new(10, 0, 0, 0).into(), 8, action::DENY, 2),
        rule(Ipv4Addr::new(169, 254, 0, 0).into(), 16, action::DENY, 3),
        rule(Ipv4Addr::new(192, 168, 0, 0).into(), 16, action::DENY, 4),
        rule(Ipv4Addr::new(224, 0, 0, 0).into(), 3, action::DENY, 5),
        rule(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0).into(), 7, action::DENY, 6),
        rule(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 10, action::DENY, 7),
        rule(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8, action::DENY, 8),
        rule(LISTED4.into(), 16, action::LISTED, 9),
    ]
}

/// D's list; and the same of others, which nobody here has, for everything.
fn lists() -> BTreeMap<ListKey, EgressRule> {
    let entry = |service, list: u16, addr: IpAddr, len: u32| {
        let bits = if addr.is_ipv4() { len + 96 } else { len };
        let listed = Listed { service, list: list.into(), addr: addr.into() };
        (ListKey { prefix_len: ListKey::HEAD + bits, listed }, EgressRule { action: action::ALLOW, rule: 1 })
    };
    [
        entry(D.identity.service, D_LIST, Ipv4Addr::new(11, 0, 0, 0).into(), 8),
        entry(D.identity.service, D_LIST, OUTSIDE6.into(), 128),
        entry(D.identity.service, D_LIST, LISTED4.into(), 16),
        entry(D.identity.service, D_LIST, Ipv4Addr::new(192, 168, 0, 0).into(), 16),
        entry(D.identity.service, D_LIST + 1, Ipv6Addr::UNSPECIFIED.into(), 0),
        entry(D.identity.service + 1, D_LIST, Ipv6Addr::UNSPECIFIED.into(), 0),
    ]
    .into()
}

fn device(replica: &Replica) -> Device {
    Device {
        networks: replica.networks,
        identity: replica.identity,
        address6: replica.v6().into(),
        address4: Addr::from(replica.v4()).v4_word(),
        flags: replica.flags,
        mac: replica.mac(),
        host_mac: replica.host_mac(),
        ..Device::default()
    }
}

fn endpoint(replica: &Replica, node: u32, ifindex: u32) -> [(Addr, Endpoint); 2] {
    let value = Endpoint {
        networks: replica.networks,
        identity: replica.identity,
        node,
        ifindex,
        mac: replica.mac(),
        ..Endpoint::default()
    };
    [(replica.v4().into(), value), (replica.v6().into(), value)]
}

/// The wire format of a dotted name, zero-filled, and its length.
pub(crate) fn wire_name(text: &str) -> ([u8; NAME_MAX], u32) {
    let (mut wire, mut at) = ([0; NAME_MAX], 0);
    for label in text.split('.') {
        wire[at] = label.len() as u8;
        wire[at + 1..at + 1 + label.len()].copy_from_slice(label.as_bytes());
        at += 1 + label.len();
    }
    (wire, at as u32 + 1)
}
