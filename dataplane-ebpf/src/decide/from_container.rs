use super::{
    Decision, Echo, Frame, Question, TooBig, Verdict, Workspace,
    boundary::{self, Sender, Step},
    is_own, own_device, parse, tunnel,
};
use crate::{
    abi::{Reason, ServiceKey},
    packet::{self, Bytes, Family, Fragment, Transport, Udp, protocol},
    tables::{Host, Tables},
};

/// Port of DNS, network order.
const DNS_PORT: u16 = 53_u16.to_be();

/// Decides about a frame that a replica sends, on the host end of its veth.
#[inline(always)]
pub fn from_container(
    tables: &impl Tables,
    host: &impl Host,
    frame: &Frame,
    bytes: &impl Bytes,
    work: &mut Workspace,
) -> Decision {
    let sender = Sender { tables, host, frame, bytes };
    let step = near(&sender, work);
    // What stays on the node and in its networks pays for no further question.
    if let Ok(Step::Deliver) = step
        && work.endpoint.ifindex != 0
    {
        return Decision { who: work.device.identity, verdict: Verdict::Deliver { ifindex: work.endpoint.ifindex } };
    }
    let step = match step {
        Ok(Step::Cross) => boundary::cross(&sender, work).map(|()| Step::Deliver),
        Ok(Step::Leave) => boundary::leave(&sender, work).map(|()| Step::Stack),
        step => step,
    };
    let step = match step {
        Ok(Step::Deliver) if work.endpoint.ifindex == 0 => tunnel::enter(&sender, work),
        step => step,
    };
    let verdict = match step {
        Ok(Step::Deliver) => Verdict::Deliver { ifindex: work.endpoint.ifindex },
        Ok(Step::Tunnel) => Verdict::Tunnel { ifindex: work.way.ifindex },
        Ok(Step::TooBig) => Verdict::TooBig(TooBig { family: work.packet.family, mtu: work.way.mtu }),
        Ok(Step::Stack | Step::Cross | Step::Leave) => Verdict::Stack,
        Ok(Step::Dns) => Verdict::Dns(question(work)),
        Ok(Step::Echo) => Verdict::Echo(Echo { family: work.packet.family, at: work.packet.transport }),
        Err(reason) => Verdict::Drop(reason),
    };
    Decision { who: work.device.identity, verdict }
}

/// Decides what stays within the sender's networks, and finds out what does not.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn near(sender: &Sender<'_, impl Tables, impl Host, impl Bytes>, work: &mut Workspace) -> Result<Step, Reason> {
    own_device(sender.tables, sender.frame, &mut work.device)?;
    let node = sender.tables.node().ok_or(Reason::NoConfig)?;
    well_formed(sender, work)?;
    if work.packet.destination == node.dns {
        dns_address(sender, work)
    } else if node.is_container(&work.packet.destination) {
        replica(sender, work)
    } else if node.is_vip(&work.packet.destination) {
        vip(sender, work)
    } else {
        Ok(Step::Leave)
    }
}

/// Parses the packet and checks that it is one and comes from where it says.
#[inline(always)]
fn well_formed(
    sender: &Sender<'_, impl Tables, impl Host, impl Bytes>,
    Workspace { device, packet, .. }: &mut Workspace,
) -> Result<(), Reason> {
    // Link messages are refused before the source is looked at: theirs are link-local, which is no forgery.
    let ethernet = parse(sender.frame, sender.bytes, packet)?;
    if !same_mac(ethernet.source, device.mac) {
        return Err(Reason::SpoofedMac);
    }
    if !is_own(device, packet.family, &packet.source) {
        return Err(Reason::SpoofedAddress);
    }
    // As IPv6, a v4-mapped destination is nobody's: not one of the IPv4 addresses it looks like here.
    if matches!(packet.family, Family::V6) && packet.destination.is_v4() {
        return Err(Reason::EgressDenied);
    }
    Ok(())
}

/// Compares in two words: BPF has no `memcmp`.
#[inline(always)]
fn same_mac(a: [u8; 6], b: [u8; 6]) -> bool {
    let head = |m: [u8; 6]| u32::from_ne_bytes([m[0], m[1], m[2], m[3]]);
    let tail = |m: [u8; 6]| u16::from_ne_bytes([m[4], m[5]]);
    head(a) == head(b) && tail(a) == tail(b)
}

/// To an address of the container pool.
#[inline(always)]
fn replica(sender: &Sender<'_, impl Tables, impl Host, impl Bytes>, work: &mut Workspace) -> Result<Step, Reason> {
    if !sender.tables.endpoint(&work.packet.destination, &mut work.endpoint)? {
        return Err(Reason::UnknownAddress);
    }
    Ok(boundary::between(work))
}

/// To the cluster's DNS address, for which the host has a forwarder.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn dns_address(sender: &Sender<'_, impl Tables, impl Host, impl Bytes>, work: &Workspace) -> Result<Step, Reason> {
    let packet = &work.packet;
    if !matches!(packet.fragment, Fragment::Whole) {
        return Err(Reason::BadDns);
    }
    match (packet::transport(sender.bytes, packet)?, packet.protocol) {
        (Transport::EchoRequest(_), _) => Ok(Step::Echo),
        (Transport::Ports { destination: DNS_PORT, .. }, protocol::TCP) => Ok(Step::Stack),
        (Transport::Ports { destination: DNS_PORT, .. }, protocol::UDP) => {
            let udp: Udp = sender.bytes.load(packet.transport).ok_or(Reason::BadDns)?;
            let whole = packet.end - packet.transport == u32::from(u16::from_be(udp.len));
            // Several questions in one, or octets that only one of two readers would see, are never answered.
            if sender.frame.gso != 0 || !whole { Err(Reason::BadDns) } else { Ok(Step::Dns) }
        }
        _ => Err(Reason::DnsPort),
    }
}

#[inline(always)]
fn question(Workspace { device, packet, .. }: &Workspace) -> Question {
    let at = packet.transport + size_of::<Udp>() as u32;
    Question { asker: device.into(), at, len: packet.end - at }
}

/// To an address of the VIP pool. Sockets are sent to a backend when they connect, so only an echo request has
/// business here.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn vip(sender: &Sender<'_, impl Tables, impl Host, impl Bytes>, work: &Workspace) -> Result<Step, Reason> {
    let Workspace { device, packet, .. } = work;
    let key = ServiceKey { env: device.identity.env, vip: packet.destination };
    let service = sender.tables.service(&key)?.ok_or(Reason::UnknownVip)?;
    if service.networks & device.networks == 0 {
        return Err(Reason::UnknownVip);
    }
    if !matches!(packet.fragment, Fragment::Whole) {
        return Err(Reason::UntranslatedVip);
    }
    match packet::transport(sender.bytes, packet)? {
        Transport::EchoRequest(_) => Ok(Step::Echo),
        _ => Err(Reason::UntranslatedVip),
    }
}
