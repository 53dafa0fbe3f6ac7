//! One packet for each thing that a packet can be, with what has to become of it, in an order in which questions come
//! before their answers.

mod resolver;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane_ebpf::abi::Reason;
use dataplane_ebpf::decide::Frame;
use tests::raw::{self, protocol};

use crate::mirror::{Fate, Way};
use crate::world::{
    self, A, ASIDE4, B, C, D, DNS, FOREIGN, HIDDEN4, HOST4, LISTED4, LOST, NOWHERE4, OUTSIDE4, OUTSIDE6, REMOTE,
    Replica, TUNNEL_MTU, UPLINK, VIP4, VIP6, node, wire_name,
};

/// A packet and its fate.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) what: &'static str,
    pub(crate) way: Way,
    pub(crate) about: Frame,
    pub(crate) packet: Vec<u8>,
    pub(crate) fate: Expected,
}

/// As much of a [`Fate`] as a table can say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expected {
    Exactly(Fate),
    /// An answer, whatever its length.
    Answer,
}

impl Expected {
    pub(crate) fn is(self, fate: Fate) -> bool {
        match self {
            Self::Exactly(expected) => expected == fate,
            Self::Answer => matches!(fate, Fate::Answer(_)),
        }
    }
}

fn drop(reason: Reason) -> Expected {
    Expected::Exactly(Fate::Drop(reason))
}

fn deliver(to: &Replica) -> Expected {
    Expected::Exactly(Fate::Deliver(to.ifindex()))
}

const TUNNEL: Expected = Expected::Exactly(Fate::Tunnel);
const TOO_BIG: Expected = Expected::Exactly(Fate::TooBig);
const STACK: Expected = Expected::Exactly(Fate::Stack);
const PASS: Expected = Expected::Exactly(Fate::Pass);
const ECHO: Expected = Expected::Exactly(Fate::Echo);

pub(crate) fn ip(source: IpAddr, destination: IpAddr, kind: u8, payload: Vec<u8>) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => raw::Ipv4::new(source, destination, kind, payload).bytes(),
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            raw::Ipv6 { source, destination, next_header: kind, payload }.bytes()
        }
        _ => unreachable!("two families in one packet"),
    }
}

pub(crate) fn udp(source: IpAddr, destination: IpAddr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    ip(source, destination, protocol::UDP, raw::udp(source, destination, ports, payload))
}

fn tcp(source: IpAddr, destination: IpAddr, ports: (u16, u16)) -> Vec<u8> {
    ip(source, destination, protocol::TCP, raw::tcp_syn(source, destination, ports, 1))
}

fn echo(source: IpAddr, destination: IpAddr) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(_), IpAddr::V4(_)) => ip(source, destination, protocol::ICMP, raw::echo_request4(7, 1, b"ping")),
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            ip(source, destination, protocol::ICMPV6, raw::echo_request6(from, to, 7, 1, b"ping"))
        }
        _ => unreachable!("two families in one packet"),
    }
}

fn unreachable(source: IpAddr, destination: IpAddr, about: &[u8]) -> Vec<u8> {
    let (kind, code, protocol) = if source.is_ipv4() { (3, 3, protocol::ICMP) } else { (1, 4, protocol::ICMPV6) };
    ip(source, destination, protocol, [&[kind, code, 0, 0, 0, 0, 0, 0], about].concat())
}

/// An echo reply of the same.
fn reply(mut packet: Vec<u8>) -> Vec<u8> {
    let at = if packet[0] >> 4 == 4 { 20 } else { 40 };
    packet[at] = if at == 20 { 0 } else { 129 };
    packet
}

/// A DNS question; with `edns`, an OPT record with a cookie.
pub(crate) fn question(name: &str, kind: u16, edns: bool) -> Vec<u8> {
    let (wire, len) = wire_name(name);
    let mut message = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
    message.extend(&wire[..len as usize]);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    if edns {
        message.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
    message
}

/// A packet behind the Ethernet header that its first octet means.
pub(crate) fn headed(packet: Vec<u8>) -> Vec<u8> {
    let ether_type = match packet.first().map(|octet| octet >> 4) {
        Some(4) => raw::IPV4,
        Some(6) => raw::IPV6,
        _ => 0,
    };
    raw::Ethernet { ether_type, ..raw::Ethernet::ip([0; 6], [0; 6], packet) }.bytes()
}

struct Cases(Vec<Case>);

impl Cases {
    fn frame(&mut self, what: &'static str, sender: &Replica, packet: Vec<u8>, fate: Expected) {
        let about = Frame { ifindex: sender.ifindex(), ingress_ifindex: sender.ifindex(), ..Frame::default() };
        self.0.push(Case { what, way: Way::From, about, packet, fate });
    }

    /// A packet that a replica sends.
    fn sent(&mut self, what: &'static str, sender: &Replica, packet: Vec<u8>, fate: Expected) {
        self.frame(what, sender, raw::Ethernet::ip(sender.mac(), sender.host_mac(), packet).bytes(), fate);
    }

    /// A packet to a replica, that came to the host by a device (0: made there) with a mark.
    fn came(&mut self, what: &'static str, to: &Replica, by: u32, mark: u32, packet: Vec<u8>, fate: Expected) {
        let about = Frame { ifindex: to.ifindex(), ingress_ifindex: by, mark, ..Frame::default() };
        let packet = raw::Ethernet::ip(to.host_mac(), to.mac(), packet).bytes();
        self.0.push(Case { what, way: Way::To, about, packet, fate });
    }

    /// A packet from another node.
    fn through(&mut self, what: &'static str, packet: Vec<u8>, fate: Expected) {
        let about = Frame { ifindex: world::TUNNEL, ingress_ifindex: world::TUNNEL, ..Frame::default() };
        let packet = headed(packet);
        self.0.push(Case { what, way: Way::Through, about, packet, fate });
    }

    /// Changes what the kernel says about the last packet.
    fn last(&mut self, change: impl FnOnce(&mut Frame)) {
        if let Some(case) = self.0.last_mut() {
            change(&mut case.about);
        }
    }

    fn asked(&mut self, what: &'static str, asker: &Replica, message: &[u8], fate: Expected) {
        self.sent(what, asker, udp(asker.v4().into(), DNS.into(), (1000, 53), message), fate);
    }
}

/// Every case; A may reach D by a grant, B may not by another.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Cases(Vec::new());
    inside(&mut cases);
    odd(&mut cases);
    across(&mut cases);
    outside(&mut cases);
    resolver::resolver(&mut cases);
    nodes(&mut cases);
    cases.0
}

fn inside(cases: &mut Cases) {
    let pairs: [(IpAddr, IpAddr, IpAddr); 2] =
        [(A.v4().into(), B.v4().into(), C.v4().into()), (A.v6().into(), B.v6().into(), C.v6().into())];
    for (a, b, c) in pairs {
        cases.sent("TCP to a common network", &A, tcp(a, b, (1, 2)), deliver(&B));
        cases.sent("UDP to a common network", &A, udp(a, b, (1, 2), b"x"), deliver(&B));
        cases.sent("ping to a common network", &A, echo(a, b), deliver(&B));
        cases.sent("another protocol to a common network", &A, ip(a, b, protocol::GRE, vec![0; 8]), deliver(&B));
        cases.sent("to a service of another network", &A, tcp(a, c, (1, 2)), drop(Reason::NoSharedNetwork));
        cases.sent("of a service of another network", &C, tcp(c, a, (1, 2)), drop(Reason::NoSharedNetwork));
        cases.sent("another's address as source", &A, udp(b, c, (1, 2), b"x"), drop(Reason::SpoofedAddress));
    }
    let nobody = Ipv4Addr::new(10, 208, 77, 77);
    cases.sent("to nobody", &A, tcp(A.v4().into(), nobody.into(), (1, 2)), drop(Reason::UnknownAddress));
    let mapped = B.v4().to_ipv6_mapped();
    cases.sent("to a mapped address", &A, udp(A.v6().into(), mapped.into(), (1, 2), b"x"), drop(Reason::EgressDenied));
    let vips: [(IpAddr, IpAddr); 2] = [(A.v4().into(), VIP4.into()), (A.v6().into(), VIP6.into())];
    for (a, vip) in vips {
        cases.sent("ping to a VIP", &A, echo(a, vip), ECHO);
        cases.sent("TCP to a VIP", &A, tcp(a, vip, (1, 2)), drop(Reason::UntranslatedVip));
    }
    cases.sent("ping to another network's VIP", &A, echo(A.v4().into(), HIDDEN4.into()), drop(Reason::UnknownVip));
    cases.sent("ping to another environment's VIP", &D, echo(D.v4().into(), VIP4.into()), drop(Reason::UnknownVip));
    cases.sent(
        "ping to no VIP",
        &A,
        echo(A.v4().into(), Ipv4Addr::new(10, 224, 9, 9).into()),
        drop(Reason::UnknownVip),
    );
}

fn odd(cases: &mut Cases) {
    let plain = raw::Ipv4::new(A.v4(), B.v4(), protocol::UDP, raw::udp(A.v4().into(), B.v4().into(), (1, 2), b"x"));
    let frame = |packet: Vec<u8>| raw::Ethernet::ip(A.mac(), A.host_mac(), packet).bytes();
    let with_type =
        |ether_type: u16| raw::Ethernet { ether_type, ..raw::Ethernet::ip(A.mac(), A.host_mac(), plain.bytes()) };
    let mut forged = frame(plain.bytes());
    forged[11] ^= 1;
    cases.frame("a forged MAC", &A, forged, drop(Reason::SpoofedMac));
    cases.frame("ARP", &A, raw::arp_request(A.mac(), A.v4(), B.v4()).bytes(), drop(Reason::Arp));
    cases.frame("a VLAN tag", &A, with_type(0x8100).bytes(), drop(Reason::VlanTag));
    cases.frame("a provider's VLAN tag", &A, with_type(0x88a8).bytes(), drop(Reason::VlanTag));
    cases.frame("LLDP", &A, with_type(0x88cc).bytes(), drop(Reason::EtherType));
    cases.frame("cut in the payload", &A, frame(plain.bytes())[..40].to_vec(), drop(Reason::BadLength));
    cases.sent("IPv4 options", &A, raw::Ipv4 { options: vec![1; 4], ..plain }.bytes(), drop(Reason::Ipv4Options));
    let headers = |kinds: &[u8]| {
        let next = |i: usize| *kinds.get(i).unwrap_or(&protocol::UDP);
        let mut payload: Vec<u8> = (0..kinds.len()).flat_map(|i| raw::extension(next(i + 1), &[0; 6])).collect();
        payload.extend(raw::udp(A.v6().into(), B.v6().into(), (1, 2), b"x"));
        ip(A.v6().into(), B.v6().into(), next(0), payload)
    };
    cases.sent("six extension headers", &A, headers(&[protocol::DESTINATION; 6]), deliver(&B));
    cases.sent("seven extension headers", &A, headers(&[protocol::DESTINATION; 7]), drop(Reason::ExtensionHeaders));
    cases.sent("a routing header", &A, headers(&[0, protocol::ROUTING]), drop(Reason::RoutingHeader));
    let solicitation = [&[135, 0, 0, 0], [0; 20].as_slice()].concat();
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    for source in [A.v6(), link_local] {
        let packet = ip(source.into(), B.v6().into(), protocol::ICMPV6, solicitation.clone());
        cases.sent("neighbour discovery", &A, packet, drop(Reason::NeighborDiscovery));
    }
    let stranger = Replica { host: 42, ..A };
    cases.sent(
        "on no replica's device",
        &stranger,
        tcp(A.v4().into(), B.v4().into(), (1, 2)),
        drop(Reason::UnknownDevice),
    );
    cases.last(|about| *about = Frame { ifindex: UPLINK, ingress_ifindex: UPLINK, ..Frame::default() });
}

fn across(cases: &mut Cases) {
    let pairs: [(IpAddr, IpAddr, IpAddr); 2] =
        [(A.v4().into(), D.v4().into(), B.v4().into()), (A.v6().into(), D.v6().into(), B.v6().into())];
    for (a, d, b) in pairs {
        let asked = udp(a, d, (1000, 53), b"x");
        cases.sent("what nobody asked", &D, udp(d, a, (53, 1000), b"x"), drop(Reason::OtherEnvironment));
        cases.sent("an error about nothing", &D, unreachable(d, a, &asked), drop(Reason::UnrelatedIcmp));
        cases.sent("what a grant allows", &A, asked.clone(), deliver(&D));
        cases.sent("the answer to it", &D, udp(d, a, (53, 1000), b"x"), deliver(&A));
        cases.sent("an error about it", &D, unreachable(d, a, &asked), deliver(&A));
        cases.sent("another answer", &D, udp(d, a, (53, 1001), b"x"), drop(Reason::OtherEnvironment));
        cases.sent("a ping that a grant allows", &A, echo(a, d), deliver(&D));
        cases.sent("the answer to the ping", &D, reply(echo(d, a)), deliver(&A));
        cases.sent("what a grant denies", &B, tcp(b, d, (1, 2)), drop(Reason::Denied));
        cases.sent("what no grant is about", &D, tcp(d, b, (1, 2)), drop(Reason::OtherEnvironment));
    }
    let piece = raw::Ipv4::new(A.v4(), D.v4(), protocol::UDP, raw::udp(A.v4().into(), D.v4().into(), (9, 9), &[0; 16]));
    let first = raw::Ipv4 { more_fragments: true, id: 77, ..piece.clone() }.bytes();
    let later = raw::Ipv4 { fragment_offset: 3, id: 77, ..piece }.bytes();
    cases.sent("a later fragment alone", &A, later.clone(), drop(Reason::OrphanFragment));
    cases.sent("a first fragment", &A, first, deliver(&D));
    cases.sent("its later one", &A, later, deliver(&D));
    let six = |more, offset| {
        let payload = [raw::fragment_header(protocol::UDP, offset, more, 0x0102_0304), vec![0; 16]].concat();
        ip(A.v6().into(), D.v6().into(), protocol::FRAGMENT, payload)
    };
    cases.sent("a first fragment", &A, six(true, 0), deliver(&D));
    cases.sent("its later one", &A, six(false, 2), deliver(&D));
}

fn outside(cases: &mut Cases) {
    let (mark, pairs): (u32, [(IpAddr, IpAddr); 2]) =
        (node().host_mark, [(A.v4().into(), OUTSIDE4.into()), (A.v6().into(), OUTSIDE6.into())]);
    for (a, out) in pairs {
        let answer = tcp(out, a, (443, 1000));
        cases.came("what nobody asked out there", &A, UPLINK, 0, answer.clone(), drop(Reason::NotAReply));
        cases.sent("out", &A, tcp(a, out, (1000, 443)), STACK);
        cases.came("back", &A, UPLINK, 0, answer.clone(), PASS);
        cases.came("the same of a local process", &A, 0, 0, answer.clone(), drop(Reason::LocalProcess));
        cases.came("the same of skepd", &A, 0, mark, answer.clone(), PASS);
        cases.came("skepd's mark from elsewhere", &A, UPLINK, mark, tcp(out, a, (444, 1000)), drop(Reason::NotAReply));
        cases.sent("a ping out", &A, echo(a, out), STACK);
        cases.came("its reply", &A, UPLINK, 0, reply(echo(out, a)), PASS);
        cases.came("a ping from outside", &A, UPLINK, 0, echo(out, a), drop(Reason::NotAReply));
        cases.came("an error about what left", &A, 0, 0, unreachable(out, a, &tcp(a, out, (1000, 443))), PASS);
        let unrelated = unreachable(out, a, &tcp(a, out, (1001, 443)));
        cases.came("an error about what did not", &A, UPLINK, 0, unrelated, drop(Reason::UnrelatedIcmp));
    }
    let report = [&[143, 0, 0, 0, 0, 0, 0, 1, 4], [0; 19].as_slice()].concat();
    let report = [raw::extension(protocol::ICMPV6, &[5, 2, 0, 0, 1, 0]), report].concat();
    let groups = ip(
        Ipv6Addr::UNSPECIFIED.into(),
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16).into(),
        protocol::HOP_BY_HOP,
        report,
    );
    cases.came("the groups that the host listens to", &A, 0, 0, groups, drop(Reason::MulticastReport));
    let a = A.v4().into();
    cases.came(
        "another's address",
        &A,
        UPLINK,
        0,
        tcp(OUTSIDE4.into(), B.v4().into(), (1, 2)),
        drop(Reason::UnknownAddress),
    );
    cases.sent("out without a way out", &B, tcp(B.v4().into(), OUTSIDE4.into(), (1, 2)), drop(Reason::EgressOff));
    let private = Ipv4Addr::new(192, 168, 1, 1);
    cases.sent("to a private network", &A, tcp(a, private.into(), (1, 2)), drop(Reason::EgressDenied));
    cases.sent("to the host itself", &A, tcp(a, HOST4.into(), (1, 2)), drop(Reason::NoRoute));
    cases.sent("where no route goes", &A, tcp(a, NOWHERE4.into(), (1, 2)), drop(Reason::NoRoute));
    cases.sent("to another network of the host", &A, tcp(a, ASIDE4.into(), (1, 2)), drop(Reason::NotUplink));
    let listed = Ipv4Addr::from(u32::from(LISTED4) + 9).into();
    cases.sent("to what only others list", &A, tcp(a, listed, (1, 2)), drop(Reason::EgressDenied));
    let d = D.v4().into();
    cases.sent("to a private network that is listed", &D, tcp(d, listed, (1, 2)), drop(Reason::NoRoute));
    cases.sent("to one that is listed in vain", &D, tcp(d, private.into(), (1, 2)), drop(Reason::EgressDenied));
    cases.sent("to what is listed", &D, tcp(d, OUTSIDE4.into(), (1, 2)), STACK);
    cases.came("the answer of what is listed", &D, UPLINK, 0, tcp(OUTSIDE4.into(), d, (2, 1)), PASS);
    cases.sent("to what is not", &D, tcp(d, ASIDE4.into(), (1, 2)), drop(Reason::NotListed));
    cases.sent("to an address that is listed", &D, tcp(D.v6().into(), OUTSIDE6.into(), (1, 2)), STACK);
    let beside = Ipv6Addr::from(u128::from(OUTSIDE6) + 1).into();
    cases.sent("to the one beside it", &D, tcp(D.v6().into(), beside, (1, 2)), drop(Reason::NotListed));
}

fn nodes(cases: &mut Cases) {
    for (own, far, foreign, lost, other) in [
        (
            IpAddr::from(A.v4()),
            IpAddr::from(REMOTE.v4()),
            IpAddr::from(FOREIGN.v4()),
            IpAddr::from(LOST.v4()),
            B.v4().into(),
        ),
        (A.v6().into(), REMOTE.v6().into(), FOREIGN.v6().into(), LOST.v6().into(), B.v6().into()),
    ] {
        let sized = |octets: usize| udp(own, far, (1, 2), &vec![0; octets - if own.is_ipv4() { 28 } else { 48 }]);
        cases.sent("to another node", &A, tcp(own, far, (1, 2)), TUNNEL);
        cases.sent("as much as fits to another node", &A, sized(TUNNEL_MTU as usize), TUNNEL);
        cases.sent("more than fits", &A, sized(TUNNEL_MTU as usize + 1), TOO_BIG);
        cases.sent(
            "an error about it that does not fit",
            &A,
            unreachable(own, far, &sized(1_420)),
            drop(Reason::TooBig),
        );
        cases.sent("to an environment of another node", &A, tcp(own, foreign, (1, 2)), drop(Reason::OtherEnvironment));
        cases.sent("to a node without a tunnel", &A, tcp(own, lost, (1, 2)), drop(Reason::NoTunnel));
        cases.sent("several that fit", &A, sized(3_000), TUNNEL);
        cases.last(|about| about.gso = 1_000);
        cases.sent("several of which one does not", &A, sized(3_000), TOO_BIG);
        cases.last(|about| about.gso = 1_413);
        cases.through("from another node", tcp(far, own, (1, 2)), deliver(&A));
        cases.through("a ping from another node", echo(far, own), deliver(&A));
        cases.through("from an environment of another node", tcp(foreign, own, (1, 2)), drop(Reason::OtherEnvironment));
        cases.through("of a replica of this node", tcp(other, own, (1, 2)), drop(Reason::SpoofedAddress));
        cases.through("to a replica of another node", tcp(far, lost, (1, 2)), drop(Reason::NotHere));
    }
    let (a, far) = (IpAddr::from(A.v4()), IpAddr::from(REMOTE.v4()));
    let nobody = Ipv4Addr::new(10, 208, 77, 77);
    cases.through("of nobody", tcp(nobody.into(), a, (1, 2)), drop(Reason::UnknownSender));
    cases.through("to nobody", tcp(far, nobody.into(), (1, 2)), drop(Reason::UnknownAddress));
    cases.through("to the host", tcp(far, HOST4.into(), (1, 2)), drop(Reason::UnknownAddress));
    cases.through("to the DNS address", udp(far, DNS.into(), (1, 53), b"x"), drop(Reason::UnknownAddress));
    let mut neither = tcp(far, a, (1, 2));
    neither[0] = 0x50;
    cases.through("neither IPv4 nor IPv6", neither, drop(Reason::EtherType));
    let later = raw::Ipv4::new(A.v4(), REMOTE.v4(), protocol::UDP, vec![0; 1_480]);
    let later = raw::Ipv4 { fragment_offset: 3, ..later }.bytes();
    cases.sent("a later fragment that does not fit", &A, later, drop(Reason::TooBig));
}
