//! What a replica sends across a boundary: to another environment, to a service it shares no network with, or out
//! of the cluster.

use super::{
    Frame, Workspace,
    egress::egress,
    flows::{Memory, Sides},
    grant::grant,
};
use crate::{
    abi::{GrantKey, Identity, Reason, action},
    packet::{self, Bytes, Fragment, Transport, protocol},
    tables::{Host, Route, Tables},
};

/// What there is to know about a packet that a replica sends, besides what the [`Workspace`] holds.
pub(super) struct Sender<'a, T, H, B> {
    pub(super) tables: &'a T,
    pub(super) host: &'a H,
    pub(super) frame: &'a Frame,
    pub(super) bytes: &'a B,
}

/// What becomes of a packet that is let through. What belongs to it is in the workspace: an enum that carries data has
/// octets without a value, and a program may not copy those. As wide as a reason, so that a result of either has none.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// To the workspace's endpoint.
    Deliver,
    /// To its node, by the workspace's way.
    Tunnel,
    /// It is more than fits on that way, and its sender is to be told.
    TooBig,
    /// To the host's stack.
    Stack,
    /// It is a DNS question.
    Dns,
    /// It is an echo request to be turned round.
    Echo,
    /// It crosses a boundary inside the cluster.
    Cross,
    /// It leaves the cluster.
    Leave,
}

/// Whether the workspace's device and endpoint share a network; what does not crosses a boundary.
#[inline(always)]
pub(super) fn between(Workspace { device, endpoint, .. }: &Workspace) -> Step {
    let same_env = endpoint.identity.env == device.identity.env;
    if same_env && endpoint.networks & device.networks != 0 { Step::Deliver } else { Step::Cross }
}

/// Lets a packet cross to another replica if a grant says so, or if it answers what a grant let cross.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn cross(
    sender: &Sender<'_, impl Tables, impl Host, impl Bytes>,
    work: &mut Workspace,
) -> Result<(), Reason> {
    let (own, other) = (work.device.identity, work.endpoint.identity);
    if matches!(work.packet.fragment, Fragment::Later) {
        return sender.later_fragment(work, other);
    }
    let (may_ask, may_answer) = match packet::transport(sender.bytes, &work.packet)? {
        Transport::Ports { source, destination } => {
            work.key = work.packet.tuple(source, destination);
            (true, true)
        }
        Transport::EchoRequest(id) => {
            work.key = work.packet.tuple(id, id);
            (true, false)
        }
        Transport::EchoReply(id) => {
            work.key = work.packet.tuple(id, id);
            (false, true)
        }
        Transport::IcmpError => return sender.related(work, other),
        Transport::IcmpOther => return Err(closed(work)),
    };
    work.asked = work.key.reversed();
    work.answers = may_answer && sender.live(other, own, work)?;
    // Of an answer, the rule that let the question cross must still be there.
    let (source, destination, port) = match work.answers {
        true => (other, own, work.asked.destination_port),
        false if may_ask => (own, other, work.key.destination_port),
        false => return Err(closed(work)),
    };
    // An echo's identifier is no port.
    let protocol = work.packet.protocol;
    let port = if matches!(protocol, protocol::ICMP | protocol::ICMPV6) { 0 } else { port };
    work.grant = GrantKey { source, destination, port, protocol, pad: 0 };
    if !ruled(sender.tables, work)? {
        return Err(closed(work));
    }
    let sides = Sides { source: own, destination: other };
    match (work.rule.action, work.answers) {
        (action::ALLOW, true) if work.rule.rule == work.flow.rule => {
            sender.memory().seen(&work.asked, &work.flow);
            sender.first_fragment(work, &sides, work.rule.rule)
        }
        (action::ALLOW, false) => sender.crosses(work, &sides, work.rule.rule),
        (action::DENY, false) => Err(Reason::Denied),
        _ => Err(closed(work)),
    }
}

/// Why what no rule lets cross does not.
#[inline(always)]
fn closed(Workspace { device, endpoint, .. }: &Workspace) -> Reason {
    if device.identity.env == endpoint.identity.env { Reason::NoSharedNetwork } else { Reason::OtherEnvironment }
}

/// Whether there is a rule for the workspace's grant, which is then there too. What its caller goes on with is in the
/// workspace as well, of which the verifier knows nothing: so it follows this loop once, not for every way that leads here.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn ruled(tables: &impl Tables, work: &mut Workspace) -> Result<bool, Reason> {
    match grant(tables, &work.grant)? {
        Some(rule) => {
            work.rule = rule;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// Lets a packet out of the cluster if its service may, the prefix may, and the host would send it out by an uplink.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn leave(
    sender: &Sender<'_, impl Tables, impl Host, impl Bytes>,
    work: &mut Workspace,
) -> Result<(), Reason> {
    let node = sender.tables.node().ok_or(Reason::NoConfig)?;
    let rule = egress(sender.tables, work.device.identity, work.device.flags, &work.packet.destination)?;
    let begins = sender.begins(work)?;
    match sender.host.route(&work.packet) {
        Route::Forward { ifindex } if node.is_uplink(ifindex) => {}
        Route::Forward { .. } => return Err(Reason::NotUplink),
        Route::No => return Err(Reason::NoRoute),
    }
    if begins {
        let sides = Sides { source: work.device.identity, destination: Identity::WORLD };
        sender.crosses(work, &sides, rule)
    } else {
        Ok(())
    }
}

impl<T: Tables, H: Host, B: Bytes> Sender<'_, T, H, B> {
    #[inline(always)]
    fn memory(&self) -> Memory<'_, T, H> {
        Memory { tables: self.tables, host: self.host, ifindex: self.frame.ifindex }
    }

    /// Whether a packet that is to leave has a tuple to remember, which is then in the workspace; if not, it belongs
    /// to one that left.
    #[inline(always)]
    fn begins(&self, work: &mut Workspace) -> Result<bool, Reason> {
        if matches!(work.packet.fragment, Fragment::Later) {
            return self.later_fragment(work, Identity::WORLD).map(|()| false);
        }
        work.key = match packet::transport(self.bytes, &work.packet)? {
            Transport::Ports { source, destination } => work.packet.tuple(source, destination),
            Transport::EchoRequest(id) => work.packet.tuple(id, id),
            Transport::IcmpError => return self.related(work, Identity::WORLD).map(|()| false),
            // Nobody out there can have asked.
            Transport::EchoReply(_) | Transport::IcmpOther => return Err(Reason::UnrelatedIcmp),
        };
        Ok(true)
    }

    /// Whether the flow that the packet answers is remembered.
    #[inline(always)]
    fn live(&self, source: Identity, destination: Identity, work: &mut Workspace) -> Result<bool, Reason> {
        self.memory().live(&work.asked, &Sides { source, destination }, &mut work.flow)
    }

    /// Remembers the flow in the workspace, and the datagram whose first fragment this packet is.
    #[inline(always)]
    fn crosses(&self, work: &mut Workspace, sides: &Sides, rule: u32) -> Result<(), Reason> {
        self.memory().remember(&work.key, sides, rule, &mut work.flow)?;
        self.first_fragment(work, sides, rule)
    }

    /// Remembers the datagram whose first fragment this packet is.
    #[inline(always)]
    fn first_fragment(&self, work: &mut Workspace, sides: &Sides, rule: u32) -> Result<(), Reason> {
        if !matches!(work.packet.fragment, Fragment::First) {
            return Ok(());
        }
        work.key = work.packet.fragments();
        self.memory().remember(&work.key, sides, rule, &mut work.flow)
    }

    /// A later fragment says nothing about ports: it goes where its first fragment went.
    #[inline(always)]
    fn later_fragment(&self, work: &mut Workspace, other: Identity) -> Result<(), Reason> {
        work.asked = work.packet.fragments();
        if self.live(work.device.identity, other, work)? { Ok(()) } else { Err(Reason::OrphanFragment) }
    }

    /// An ICMP error may go to where the packet that it quotes came from, if that packet crossed on its way here.
    #[inline(always)]
    fn related(&self, work: &mut Workspace, other: Identity) -> Result<(), Reason> {
        let own = work.device.identity;
        work.asked = packet::embedded(self.bytes, &work.packet, &mut work.quote)?;
        if work.asked.source != work.packet.destination || work.asked.destination != work.packet.source {
            return Err(Reason::UnrelatedIcmp);
        }
        if self.live(other, own, work)? {
            return Ok(());
        }
        work.asked = work.asked.reversed();
        if self.live(own, other, work)? { Ok(()) } else { Err(Reason::UnrelatedIcmp) }
    }
}
