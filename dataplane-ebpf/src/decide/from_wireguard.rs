use super::{
    Decision, Frame, Verdict, Workspace,
    boundary::{self, Sender, Step},
    parse,
};
use crate::{
    abi::{Flow, FlowKey, Identity, Reason},
    packet::{Bytes, Family, Packet},
    tables::{Host, Route, Tables},
};

/// Decides about a packet that another node sends, on the tunnel; it begins with an Ethernet header that says no more
/// than the IP version, since a tunnel has none. What is let through goes to a replica, never to the host's stack.
///
/// WireGuard has authenticated that the source is an address of the node that sent it (AllowedIPs), which in turn has
/// checked that its replica has it; ENDPOINTS says who that is.
#[inline(always)]
pub fn from_wireguard(
    tables: &impl Tables,
    host: &impl Host,
    frame: &Frame,
    bytes: &impl Bytes,
    work: &mut Workspace,
) -> Decision {
    work.device.identity = Identity::WORLD;
    let sender = Sender { tables, host: &Admitted(host), frame, bytes };
    let step = match arrived(&sender, work) {
        Ok(Step::Cross) => boundary::cross(&sender, work),
        step => step.map(|_| ()),
    };
    let who = work.device.identity;
    let verdict = match step.and_then(|()| receiver(tables, work)) {
        Ok(()) => Verdict::Deliver { ifindex: work.endpoint.ifindex },
        Err(reason) => Verdict::Drop(reason),
    };
    Decision { who, verdict }
}

/// Checks that it is a packet between a replica of another node and one of this, and finds out whether they share a
/// network. The sender's side of it goes where a device's would be.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn arrived(sender: &Sender<'_, impl Tables, impl Host, impl Bytes>, work: &mut Workspace) -> Result<Step, Reason> {
    sender.tables.node().ok_or(Reason::NoConfig)?;
    parse(sender.frame, sender.bytes, &mut work.packet)?;
    // As IPv6, a v4-mapped address is nobody's: not the IPv4 address that it looks like here.
    let v6 = matches!(work.packet.family, Family::V6);
    if v6 && work.packet.source.is_v4() || !sender.tables.endpoint(&work.packet.source, &mut work.endpoint)? {
        return Err(Reason::UnknownSender);
    }
    if work.endpoint.ifindex != 0 {
        return Err(Reason::SpoofedAddress);
    }
    work.device.identity = work.endpoint.identity;
    work.device.networks = work.endpoint.networks;
    if v6 && work.packet.destination.is_v4() || !sender.tables.endpoint(&work.packet.destination, &mut work.endpoint)? {
        return Err(Reason::UnknownAddress);
    }
    if work.endpoint.ifindex == 0 {
        return Err(Reason::NotHere);
    }
    Ok(boundary::between(work))
}

/// Finds the device of the workspace's endpoint, in the place of what was known of the sender.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn receiver(tables: &impl Tables, Workspace { device, endpoint, .. }: &mut Workspace) -> Result<(), Reason> {
    if tables.device(endpoint.ifindex, device)? { Ok(()) } else { Err(Reason::UnknownDevice) }
}

/// A host on which a new flow takes nobody's token: it took its sender's, on the node that it comes from.
struct Admitted<'a, H>(&'a H);

impl<H: Host> Host for Admitted<'_, H> {
    #[inline(always)]
    fn now(&self) -> u64 {
        self.0.now()
    }

    #[inline(always)]
    fn route(&self, packet: &Packet) -> Route {
        self.0.route(packet)
    }

    #[inline(always)]
    fn admit(&self, _: u32) -> bool {
        true
    }

    #[inline(always)]
    fn remember(&self, key: &FlowKey, flow: &Flow) {
        self.0.remember(key, flow);
    }

    #[inline(always)]
    fn touch(&self, key: &FlowKey, now: u64) {
        self.0.touch(key, now);
    }
}
