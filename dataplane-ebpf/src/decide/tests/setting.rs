//! A node with four replicas, and the packets that they send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tests::raw::{self, protocol};

use crate::{
    abi::{
        Addr, Device, EgressKey, EgressRule, Endpoint, Grant, GrantKey, Identity, Node, NodeConfig, Pool, Service,
        ServiceKey, action, flags,
    },
    decide::{self, Frame, Verdict, Workspace},
    tables::fake::Fake,
};

pub(super) const DNS: Ipv4Addr = Ipv4Addr::new(10, 224, 0, 53);
pub(super) const VIP4: Ipv4Addr = Ipv4Addr::new(10, 224, 1, 1);
pub(super) const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd53, 0x6b65, 0x7001, 0, 0, 0, 1, 1);
pub(super) const OUTSIDE4: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 9);
pub(super) const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2a00, 0x5ce9, 0, 0, 0, 0, 0, 9);
pub(super) const UPLINK: u32 = 50;

/// One replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Replica {
    pub(super) host: u8,
    pub(super) identity: Identity,
    pub(super) networks: u64,
    pub(super) flags: u32,
}

/// With a way out.
pub(super) const A: Replica =
    Replica { host: 2, identity: Identity { env: 1, service: 10 }, networks: 0b01, flags: flags::EGRESS };
/// In A's networks and another.
pub(super) const B: Replica = Replica { host: 3, identity: Identity { env: 1, service: 11 }, networks: 0b11, flags: 0 };
/// In A's environment, in none of its networks.
pub(super) const C: Replica = Replica { host: 4, identity: Identity { env: 1, service: 12 }, networks: 0b10, flags: 0 };
/// In another environment.
pub(super) const D: Replica =
    Replica { host: 5, identity: Identity { env: 2, service: 20 }, networks: 0b01, flags: flags::EGRESS };
pub(super) const REPLICAS: [Replica; 4] = [A, B, C, D];
/// On another node, in A's network.
pub(super) const E: Replica = Replica { host: 6, identity: Identity { env: 1, service: 13 }, networks: 0b01, flags: 0 };
/// On another node, in D's environment and network.
pub(super) const F: Replica = Replica { host: 7, identity: Identity { env: 2, service: 21 }, networks: 0b01, flags: 0 };
pub(super) const REMOTES: [Replica; 2] = [E, F];
/// The node of these.
pub(super) const FAR: u32 = 2;
pub(super) const TUNNEL: u32 = 60;
/// Octets of an IP packet that fit through it.
pub(super) const TUNNEL_MTU: u32 = 1_420;

impl Replica {
    pub(super) fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 208, 0, self.host)
    }

    pub(super) fn v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd53, 0x6b65, 0x7000, 0, 0, 0, 0, self.host.into())
    }

    pub(super) fn mac(&self) -> [u8; 6] {
        [0x02, 0x53, 10, 208, 0, self.host]
    }

    pub(super) fn host_mac(&self) -> [u8; 6] {
        [0x06, 0x53, 10, 208, 0, self.host]
    }

    pub(super) fn ifindex(&self) -> u32 {
        100 + u32::from(self.host)
    }

    /// A packet that it sends.
    pub(super) fn frame(&self, packet: Vec<u8>) -> Vec<u8> {
        raw::Ethernet::ip(self.mac(), self.host_mac(), packet).bytes()
    }

    /// A packet that the host sends it.
    pub(super) fn incoming(&self, packet: Vec<u8>) -> Vec<u8> {
        raw::Ethernet::ip(self.host_mac(), self.mac(), packet).bytes()
    }
}

/// A packet from the tunnel, with the Ethernet header that the program puts in front of it.
pub(super) fn headed(packet: Vec<u8>) -> Vec<u8> {
    raw::Ethernet::ip([0; 6], [0; 6], packet).bytes()
}

/// All tables filled, no grants.
pub(super) fn node() -> Fake {
    let mut fake = Fake::default();
    fake.now.set(1_000_000_000_000);
    fake.node = Some(NodeConfig {
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
        ..NodeConfig::default()
    });
    for replica in REPLICAS {
        let (networks, identity, mac) = (replica.networks, replica.identity, replica.mac());
        fake.devices.insert(
            replica.ifindex(),
            Device {
                networks,
                identity,
                address6: replica.v6().into(),
                address4: Addr::from(replica.v4()).v4_word(),
                flags: replica.flags,
                mac,
                host_mac: replica.host_mac(),
                ..Device::default()
            },
        );
        let endpoint = Endpoint { networks, identity, ifindex: replica.ifindex(), mac, ..Endpoint::default() };
        fake.endpoints.insert(replica.v4().into(), endpoint);
        fake.endpoints.insert(replica.v6().into(), endpoint);
    }
    for replica in REMOTES {
        let (networks, identity) = (replica.networks, replica.identity);
        let endpoint = Endpoint { networks, identity, node: FAR, ..Endpoint::default() };
        fake.endpoints.insert(replica.v4().into(), endpoint);
        fake.endpoints.insert(replica.v6().into(), endpoint);
    }
    fake.nodes.insert(FAR, Node { ifindex: TUNNEL, mtu: TUNNEL_MTU, seal: 0 });
    for vip in [Addr::from(VIP4), VIP6.into()] {
        let service = Service { networks: 0b01, service: 110, ..Service::default() };
        fake.services.insert(ServiceKey { env: 1, vip }, service);
    }
    fake.egress = vec![
        (EgressKey { prefix_len: 0, addr: Addr::NONE }, EgressRule { action: action::ALLOW, rule: 1 }),
        (
            EgressKey { prefix_len: 104, addr: Ipv4Addr::new(10, 0, 0, 0).into() },
            EgressRule { action: action::DENY, rule: 2 },
        ),
    ];
    fake.routes.insert(OUTSIDE4.into(), UPLINK);
    fake.routes.insert(OUTSIDE6.into(), UPLINK);
    fake
}

/// Lets `source` reach `destination` at any port, by rule 7.
pub(super) fn allow(fake: &mut Fake, source: &Replica, destination: &Replica) {
    let key = GrantKey { source: source.identity, destination: destination.identity, ..GrantKey::default() };
    fake.grants.insert(key, Grant { action: action::ALLOW, rule: 7, seal: 0 });
}

/// What becomes of a frame that `sender` sends.
pub(super) fn sends(fake: &Fake, sender: &Replica, frame: &[u8]) -> Verdict {
    let about = Frame { ifindex: sender.ifindex(), ingress_ifindex: sender.ifindex(), ..Frame::default() };
    decide::from_container(fake, fake, &about, &frame, &mut Workspace::default()).verdict
}

/// What becomes of a frame to `receiver` that came to the host by a device, 0 for one of its own, with a mark.
pub(super) fn receives(fake: &Fake, receiver: &Replica, frame: &[u8], ingress_ifindex: u32, mark: u32) -> Verdict {
    let about = Frame { ifindex: receiver.ifindex(), ingress_ifindex, mark, ..Frame::default() };
    decide::to_container(fake, fake, &about, &frame, &mut Workspace::default()).verdict
}

/// What becomes of a packet that came through the tunnel, behind [`headed`].
pub(super) fn arrives(fake: &Fake, frame: &[u8]) -> Verdict {
    let about = Frame { ifindex: TUNNEL, ingress_ifindex: TUNNEL, ..Frame::default() };
    decide::from_wireguard(fake, fake, &about, &frame, &mut Workspace::default()).verdict
}

/// An IP packet between addresses of one family.
pub(super) fn ip(source: IpAddr, destination: IpAddr, kind: u8, payload: Vec<u8>) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => raw::Ipv4::new(source, destination, kind, payload).bytes(),
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            raw::Ipv6 { source, destination, next_header: kind, payload }.bytes()
        }
        _ => unreachable!("two families in one packet"),
    }
}

pub(super) fn udp(source: IpAddr, destination: IpAddr, ports: (u16, u16)) -> Vec<u8> {
    ip(source, destination, protocol::UDP, raw::udp(source, destination, ports, b"hello"))
}

pub(super) fn tcp(source: IpAddr, destination: IpAddr, ports: (u16, u16)) -> Vec<u8> {
    ip(source, destination, protocol::TCP, raw::tcp_syn(source, destination, ports, 1))
}

/// An echo request, or the reply to one.
pub(super) fn echo(source: IpAddr, destination: IpAddr, id: u16, reply: bool) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(_), IpAddr::V4(_)) => {
            let mut echo = raw::echo_request4(id, 1, b"ping");
            echo[0] = if reply { 0 } else { 8 };
            ip(source, destination, protocol::ICMP, echo)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut echo = raw::echo_request6(from, to, id, 1, b"ping");
            echo[0] = if reply { 129 } else { 128 };
            ip(source, destination, protocol::ICMPV6, echo)
        }
        _ => unreachable!("two families in one packet"),
    }
}

/// "Port unreachable" about a packet.
pub(super) fn unreachable(source: IpAddr, destination: IpAddr, about: &[u8]) -> Vec<u8> {
    let (kind, code, protocol) = if source.is_ipv4() { (3, 3, protocol::ICMP) } else { (1, 4, protocol::ICMPV6) };
    ip(source, destination, protocol, [&[kind, code, 0, 0, 0, 0, 0, 0], about].concat())
}

/// Something that changes after a flow began.
pub(super) type Change = fn(&mut Fake);
