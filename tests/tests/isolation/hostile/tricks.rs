use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane_ebpf::abi::Reason;
use tests::raw::{self, Ethernet, Ipv4, Ipv6, protocol};

use super::Trick;
use crate::bed::Replica;

/// Ports of all datagrams here; nobody listens.
const PORTS: (u16, u16) = (40_000, 40_001);

/// What is broken about a packet, and how.
type Breaking = (&'static str, fn(&mut Vec<u8>));

/// An ordinary IPv4 datagram, told apart by `id`.
pub(super) fn datagram(source: &Replica, destination: &Replica, id: u16) -> Vec<u8> {
    ip4_frame(source, &Ipv4 { id, ..udp4(source, destination.veth.address4) })
}

/// A frame as the container's own kernel would send it.
pub(super) fn ip4_frame(sender: &Replica, packet: &Ipv4) -> Vec<u8> {
    frame(sender, packet.bytes())
}

pub(super) fn frame(sender: &Replica, packet: Vec<u8>) -> Vec<u8> {
    Ethernet::ip(sender.veth.mac, sender.veth.host_mac, packet).bytes()
}

pub(super) fn udp4(source: &Replica, destination: Ipv4Addr) -> Ipv4 {
    let segment = raw::udp(source.veth.address4.into(), destination.into(), PORTS, b"from here to there");
    Ipv4::new(source.veth.address4, destination, protocol::UDP, segment)
}

pub(super) fn udp6(source: &Replica, destination: Ipv6Addr) -> Ipv6 {
    let payload = raw::udp(source.veth.address6.into(), destination.into(), PORTS, b"from here to there");
    Ipv6 { source: source.veth.address6, destination, next_header: protocol::UDP, payload }
}

/// `packet` with extension headers in front of its payload: their types and bodies.
pub(super) fn with_extensions(packet: &Ipv6, headers: &[(u8, &[u8])]) -> Ipv6 {
    let mut extended = packet.clone();
    for (kind, body) in headers.iter().rev() {
        extended.payload = [raw::extension(extended.next_header, body), extended.payload].concat();
        extended.next_header = *kind;
    }
    extended
}

/// Who takes part.
pub(super) struct Scene<'a> {
    /// Sends.
    pub(super) attacker: &'a Replica,
    /// Could be reached by the attacker, and must not be by tricks.
    pub(super) victim: &'a Replica,
    /// Belongs to another environment.
    pub(super) other: &'a Replica,
}

impl Scene<'_> {
    fn udp4(&self) -> Ipv4 {
        udp4(self.attacker, self.victim.veth.address4)
    }

    fn udp6(&self) -> Ipv6 {
        udp6(self.attacker, self.victim.veth.address6)
    }

    fn frame4(&self, packet: &Ipv4) -> Vec<u8> {
        frame(self.attacker, packet.bytes())
    }

    fn frame6(&self, packet: &Ipv6) -> Vec<u8> {
        frame(self.attacker, packet.bytes())
    }

    /// Tags, other protocols, ARP, neighbour discovery.
    pub(super) fn ethernet(&self) -> Vec<Trick> {
        let plain = |packet| Ethernet::ip(self.attacker.veth.mac, self.attacker.veth.host_mac, packet);
        let mut tricks = Vec::new();
        for (family, packet) in [("IPv4", self.udp4().bytes()), ("IPv6", self.udp6().bytes())] {
            tricks.push(Trick::arrives(format!("{family}, untagged"), plain(packet.clone()).bytes()));
            let tags: [(&str, &[(u16, u16)]); 5] = [
                ("802.1Q, VLAN 7", &[(0x8100, 7)]),
                ("802.1Q, priority tag", &[(0x8100, 0)]),
                ("802.1ad", &[(0x88a8, 7)]),
                ("802.1ad around 802.1Q", &[(0x88a8, 7), (0x8100, 8)]),
                ("802.1Q twice", &[(0x8100, 0), (0x8100, 0)]),
            ];
            tricks.extend(tags.map(|(what, tags)| {
                let frame = Ethernet { tags: tags.to_vec(), ..plain(packet.clone()) };
                Trick::dropped(format!("{family}, {what}"), frame.bytes(), Reason::VlanTag)
            }));
            for (what, ether_type) in [
                ("IEEE 802.3 length", 0x0026),
                ("Wake-on-LAN", 0x0842),
                ("transparent bridging", 0x6558),
                ("MPLS", 0x8847),
                ("PPPoE", 0x8864),
                ("802.1X", 0x888e),
                ("MACsec", 0x88e5),
                ("LLDP", 0x88cc),
                ("BATMAN", 0x4305),
            ] {
                let frame = Ethernet { ether_type, ..plain(packet.clone()) };
                tricks.push(Trick::dropped(format!("{family} as {what}"), frame.bytes(), Reason::EtherType));
            }
        }
        tricks.extend(self.arp());
        tricks.extend(self.neighbour_discovery());
        tricks
    }

    fn arp(&self) -> Vec<Trick> {
        let (mac, own) = (self.attacker.veth.mac, self.attacker.veth.address4);
        let ask = |address, wanted| raw::arp_request(mac, address, wanted);
        let victim = self.victim.veth.address4;
        let mut reply = ask(victim, own);
        // "victim is at attacker's MAC", to everybody.
        reply.payload[7] = 2;
        let requests = [
            ("ARP: who has the victim", ask(own, victim)),
            ("ARP: who has the gateway", ask(own, dataplane::netlink::GATEWAY4)),
            ("ARP: gratuitous, own address", ask(own, own)),
            ("ARP: gratuitous, the victim's address", ask(victim, victim)),
            ("ARP: the victim is me", reply),
        ];
        requests.map(|(what, frame)| Trick::dropped(what, frame.bytes(), Reason::Arp)).into()
    }

    fn neighbour_discovery(&self) -> Vec<Trick> {
        let destination = self.victim.veth.address6;
        let source = self.attacker.veth.address6;
        let kinds = [
            (133, "router solicitation"),
            (134, "router advertisement"),
            (135, "neighbour solicitation"),
            (136, "neighbour advertisement"),
            (137, "redirect"),
        ];
        let message = |kind: u8| {
            // The echo request's checksum, made right for the other type (RFC 1624).
            let mut payload = raw::echo_request6(source, destination, 0, 0, &[0; 16]);
            let sum = u16::from_be_bytes([payload[2], payload[3]]);
            payload[0] = kind;
            let (sum, carry) = sum.overflowing_sub((u16::from(kind) - 128) << 8);
            payload[2..4].copy_from_slice(&(sum - u16::from(carry)).to_be_bytes());
            Ipv6 { source, destination, next_header: protocol::ICMPV6, payload }
        };
        let trick = |(kind, what)| Trick::dropped(what, self.frame6(&message(kind)), Reason::NeighborDiscovery);
        let mut tricks: Vec<_> = kinds.map(trick).into();
        let hidden = with_extensions(&message(134), &[(protocol::DESTINATION, &[])]);
        tricks.push(Trick::dropped(
            "router advertisement behind destination options",
            self.frame6(&hidden),
            Reason::NeighborDiscovery,
        ));
        tricks
    }

    /// Other people's MACs and addresses.
    pub(super) fn senders(&self) -> Vec<Trick> {
        let (a, v, o) = (&self.attacker.veth, &self.victim.veth, &self.other.veth);
        let mut tricks = Vec::new();
        for (family, packet) in [("IPv4", self.udp4().bytes()), ("IPv6", self.udp6().bytes())] {
            let macs = [
                ("the victim's MAC", v.mac),
                ("another environment's MAC", o.mac),
                ("the gateway's MAC", a.host_mac),
                ("a multicast MAC", [0x03, 0x53, 0, 0, 0, 1]),
                ("no MAC", [0; 6]),
            ];
            tricks.extend(macs.map(|(what, mac)| {
                let frame = Ethernet::ip(mac, a.host_mac, packet.clone()).bytes();
                Trick::dropped(format!("{family} from {what}"), frame, Reason::SpoofedMac)
            }));
        }
        let sources4 = [
            ("the victim", v.address4),
            ("another environment", o.address4),
            ("a free address of the pool", Ipv4Addr::new(10, 208, 0, 250)),
            ("the DNS address", crate::bed::DNS),
            ("the gateway", dataplane::netlink::GATEWAY4),
            ("the node", Ipv4Addr::new(11, 0, 0, 10)),
            ("the internet", Ipv4Addr::new(11, 1, 0, 1)),
            ("loopback", Ipv4Addr::LOCALHOST),
            ("nobody", Ipv4Addr::UNSPECIFIED),
            ("everybody", Ipv4Addr::BROADCAST),
        ];
        tricks.extend(sources4.map(|(what, source)| {
            let payload = raw::udp(source.into(), v.address4.into(), PORTS, b"forged");
            let packet = Ipv4::new(source, v.address4, protocol::UDP, payload);
            Trick::dropped(format!("IPv4 from {what}"), self.frame4(&packet), Reason::SpoofedAddress)
        }));
        let sources6 = [
            ("the victim", v.address6),
            ("another environment", o.address6),
            ("the gateway", dataplane::netlink::GATEWAY6),
            ("the internet", Ipv6Addr::new(0x2a00, 0x5ce9, 1, 0, 0, 0, 0, 1)),
            ("loopback", Ipv6Addr::LOCALHOST),
            ("nobody", Ipv6Addr::UNSPECIFIED),
            ("its own IPv4 address, mapped", a.address4.to_ipv6_mapped()),
            ("the victim's IPv4 address, mapped", v.address4.to_ipv6_mapped()),
        ];
        tricks.extend(sources6.map(|(what, source)| {
            let payload = raw::udp(source.into(), IpAddr::V6(v.address6), PORTS, b"forged");
            let packet = Ipv6 { source, destination: v.address6, next_header: protocol::UDP, payload };
            Trick::dropped(format!("IPv6 from {what}"), self.frame6(&packet), Reason::SpoofedAddress)
        }));
        tricks
    }

    /// Options, wrong lengths, fragments.
    pub(super) fn ipv4(&self) -> Vec<Trick> {
        let plain = self.udp4();
        let with_options = |options: &[u8]| self.frame4(&Ipv4 { options: options.to_vec(), ..plain.clone() });
        let [a, b, c, d] = self.other.veth.address4.octets();
        let mut tricks = vec![
            Trick::arrives("plain", self.frame4(&plain)),
            Trick::dropped("no-operation options", with_options(&[1; 4]), Reason::Ipv4Options),
            Trick::dropped("record route", with_options(&[7, 7, 4, 0, 0, 0, 0, 0]), Reason::Ipv4Options),
            Trick::dropped("loose source route", with_options(&[131, 7, 4, a, b, c, d, 0]), Reason::Ipv4Options),
            Trick::dropped("strict source route", with_options(&[137, 7, 4, a, b, c, d, 0]), Reason::Ipv4Options),
            Trick::dropped("timestamps", with_options(&[68, 8, 5, 0, 0, 0, 0, 0]), Reason::Ipv4Options),
            Trick::dropped("router alert", with_options(&[148, 4, 0, 0]), Reason::Ipv4Options),
            Trick::dropped("forty octets of options", with_options(&[1; 40]), Reason::Ipv4Options),
        ];
        let broken: [Breaking; 6] = [
            ("version 5", |packet| packet[0] = 0x55),
            ("header of four words", |packet| packet[0] = 0x44),
            ("total length beyond the frame", |packet| packet[3] += 1),
            ("total length below the header", |packet| packet[3] = 19),
            ("header cut short", |packet| packet.truncate(12)),
            ("nothing at all", Vec::clear),
        ];
        tricks.extend(broken.map(|(what, breaking)| {
            let mut packet = plain.bytes();
            breaking(&mut packet);
            let bytes = Ethernet {
                ether_type: raw::IPV4,
                ..Ethernet::ip(self.attacker.veth.mac, self.attacker.veth.host_mac, packet)
            };
            Trick::dropped(what, bytes.bytes(), Reason::BadLength)
        }));
        let fragment = |fragment_offset, more_fragments| Ipv4 { fragment_offset, more_fragments, ..plain.clone() };
        tricks.push(Trick::arrives("first fragment, in the environment", self.frame4(&fragment(0, true))));
        tricks.push(Trick::arrives("later fragment, in the environment", self.frame4(&fragment(4, false))));
        tricks
    }

    /// Routing headers, too many headers, wrong lengths, fragments.
    pub(super) fn ipv6(&self) -> Vec<Trick> {
        use protocol::{DESTINATION, FRAGMENT, HOP_BY_HOP, ROUTING};
        let plain = self.udp6();
        let with = |headers: &[(u8, &[u8])]| self.frame6(&with_extensions(&plain, headers));
        let route = [&[0, 1, 0, 0, 0, 0][..], &self.other.veth.address6.octets()].concat();
        let segments = [&[4, 0, 0, 0, 0, 0][..], &self.other.veth.address6.octets()].concat();
        let options: (u8, &[u8]) = (DESTINATION, &[]);
        let mut tricks = vec![
            Trick::arrives("plain", self.frame6(&plain)),
            Trick::arrives("destination options", with(&[options])),
            Trick::arrives("six headers", with(&[options; 6])),
            Trick::dropped("seven headers", with(&[options; 7]), Reason::ExtensionHeaders),
            Trick::dropped("routing header type 0", with(&[(ROUTING, &route)]), Reason::RoutingHeader),
            Trick::dropped("routing header type 4", with(&[(ROUTING, &segments)]), Reason::RoutingHeader),
            Trick::dropped("routing header, no segments left", with(&[(ROUTING, &[0; 6])]), Reason::RoutingHeader),
            Trick::dropped(
                "routing header behind hop-by-hop and destination options",
                with(&[(HOP_BY_HOP, &[]), options, (ROUTING, &route)]),
                Reason::RoutingHeader,
            ),
        ];
        let broken: [Breaking; 4] = [
            ("version 4 as IPv6", |packet| packet[0] = 0x45),
            ("payload length beyond the frame", |packet| packet[5] += 1),
            ("header cut short", |packet| packet.truncate(30)),
            ("an extension header that ends beyond the packet", |packet| {
                packet[6] = DESTINATION;
                packet[40..42].copy_from_slice(&[protocol::UDP, 0xff]);
            }),
        ];
        tricks.extend(broken.map(|(what, breaking)| {
            let mut packet = plain.bytes();
            breaking(&mut packet);
            let frame = Ethernet::ip(self.attacker.veth.mac, self.attacker.veth.host_mac, packet);
            Trick::dropped(what, Ethernet { ether_type: raw::IPV6, ..frame }.bytes(), Reason::BadLength)
        }));
        for (what, offset, more) in [("first", 0, true), ("later", 4, false)] {
            let header = raw::fragment_header(plain.next_header, offset, more, 7);
            let payload = [header, plain.payload.clone()].concat();
            let packet = Ipv6 { next_header: FRAGMENT, payload, ..plain.clone() };
            tricks.push(Trick::arrives(format!("{what} fragment, in the environment"), self.frame6(&packet)));
        }
        tricks
    }
}
