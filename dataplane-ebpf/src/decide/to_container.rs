use super::{
    Decision, Frame, Verdict, Workspace,
    egress::egress,
    flows::{Memory, Sides},
    is_own, own_device, parse,
};
use crate::{
    abi::{Identity, NodeConfig, Reason},
    packet::{self, Bytes, Fragment, Transport},
    tables::{Host, Tables},
};

/// Decides about a frame that the host's stack sends to a replica, on the host end of its veth. What replicas send
/// each other does not come by here.
#[inline(always)]
pub fn to_container(
    tables: &impl Tables,
    host: &impl Host,
    frame: &Frame,
    bytes: &impl Bytes,
    work: &mut Workspace,
) -> Decision {
    let verdict = Receiver { tables, host, frame, bytes }.decide(work);
    Decision { who: work.device.identity, verdict: verdict.map_or_else(Verdict::Drop, |()| Verdict::Pass) }
}

/// What there is to know about a packet to a replica, besides what the [`Workspace`] holds.
struct Receiver<'a, T, H, B> {
    tables: &'a T,
    host: &'a H,
    frame: &'a Frame,
    bytes: &'a B,
}

impl<T: Tables, H: Host, B: Bytes> Receiver<'_, T, H, B> {
    #[inline(always)]
    fn memory(&self) -> Memory<'_, T, H> {
        Memory { tables: self.tables, host: self.host, ifindex: self.frame.ifindex }
    }

    #[cfg_attr(target_arch = "bpf", inline(never))]
    fn decide(&self, work: &mut Workspace) -> Result<(), Reason> {
        own_device(self.tables, self.frame, &mut work.device)?;
        let node = self.tables.node().ok_or(Reason::NoConfig)?;
        parse(self.frame, self.bytes, &mut work.packet)?;
        if !is_own(&work.device, work.packet.family, &work.packet.destination) {
            return Err(Reason::UnknownAddress);
        }
        // The host is who carries the mark, never who has one of its addresses: what Docker masquerades has one too.
        let local = self.frame.ingress_ifindex == 0;
        if local && self.frame.mark & node.mark_mask == node.host_mark {
            return Ok(());
        }
        self.answer(node, work, local)
    }

    /// Lets in what belongs to a flow that the replica began.
    #[inline(always)]
    fn answer(&self, node: &NodeConfig, work: &mut Workspace, local: bool) -> Result<(), Reason> {
        let from_outside = Sides { source: Identity::WORLD, destination: work.device.identity };
        if matches!(work.packet.fragment, Fragment::Later) {
            work.asked = work.packet.fragments();
            let live = self.memory().live(&work.asked, &from_outside, &mut work.flow)?;
            return if live { Ok(()) } else { Err(Reason::OrphanFragment) };
        }
        work.asked = match packet::transport(self.bytes, &work.packet)? {
            Transport::IcmpError => return self.related(node, work, local),
            _ if local => return Err(Reason::LocalProcess),
            Transport::Ports { source, destination } => work.packet.tuple(source, destination).reversed(),
            Transport::EchoReply(id) => work.packet.tuple(id, id).reversed(),
            Transport::EchoRequest(_) | Transport::IcmpOther => return Err(Reason::NotAReply),
        };
        if !self.holds(work)? {
            return Err(Reason::NotAReply);
        }
        if matches!(work.packet.fragment, Fragment::First) {
            work.key = work.packet.fragments();
            let rule = work.flow.rule;
            self.memory().remember(&work.key, &from_outside, rule, &mut work.flow)?;
        }
        Ok(())
    }

    /// Whether the flow that the packet answers is remembered, and the replica's way out is still what it was.
    #[inline(always)]
    fn holds(&self, work: &mut Workspace) -> Result<bool, Reason> {
        let sides = Sides { source: work.device.identity, destination: Identity::WORLD };
        let flow = &mut work.flow;
        if !self.memory().live(&work.asked, &sides, flow)? {
            return Ok(false);
        }
        let rule = egress(self.tables, work.device.identity, work.device.flags, &work.asked.destination);
        let holds = rule == Ok(flow.rule);
        if holds {
            self.memory().seen(&work.asked, flow);
        }
        Ok(holds)
    }

    /// An ICMP error comes from any router on the way, and from this host; what counts is the packet it quotes.
    #[inline(always)]
    fn related(&self, node: &NodeConfig, work: &mut Workspace, local: bool) -> Result<(), Reason> {
        work.asked = packet::embedded(self.bytes, &work.packet, &mut work.quote)?;
        let to_dns = local && work.asked.destination == node.dns;
        if work.asked.source == work.packet.destination && (to_dns || self.holds(work)?) {
            return Ok(());
        }
        Err(Reason::UnrelatedIcmp)
    }
}
