//! tc ingress on the host end of a veth: everything a replica sends.

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT},
    macros::classifier,
    programs::TcContext,
};
use dataplane_ebpf::{
    abi::{Identity, Reason},
    checksum::Sum,
    decide::{self, Decision, Echo, Question, Verdict},
    dns::{self, Outcome},
    packet::{Bytes as _, ETHERNET_LEN, Ethernet, Family, Ipv4, Udp, reply},
    tables::Tables as _,
};

use crate::{
    kernel::Kernel,
    maps, record,
    skb::{Refused, Skb},
    too_big,
};

#[classifier]
#[inline(always)]
fn from_container(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    match maps::scratch() {
        Some(scratch) => carry_out(skb, decide::from_container(&Kernel, &skb, &skb.frame(), &skb, &mut scratch.work)),
        None => TC_ACT_SHOT,
    }
}

#[inline(always)]
fn carry_out(skb: Skb, Decision { who, verdict }: Decision) -> i32 {
    let done = match verdict {
        Verdict::Deliver { ifindex } => Ok(deliver(skb, who, ifindex)),
        Verdict::Tunnel { ifindex } => Ok(to_tunnel(skb, who, ifindex)),
        Verdict::TooBig(limit) => Ok(too_big::tell(skb, who, &limit)),
        Verdict::Stack | Verdict::Pass => to_stack(skb, who),
        Verdict::Dns(question) => resolve(skb, who, &question),
        Verdict::Echo(echo) => turn_echo(skb, who, &echo).map_err(|Refused| Reason::KernelRefused),
        Verdict::Drop(reason) => Err(reason),
    };
    done.unwrap_or_else(|reason| record::packet_dropped(skb, who, reason))
}

/// Into the replica's netns, as it is. The MACs stay those of the sender and of its gateway: the kernel has compared the
/// destination with our veth's already, no neighbour is learnt from them, and to write them would cost a tenth of all that
/// is done for a packet.
#[inline(always)]
fn deliver(skb: Skb, who: Identity, ifindex: u32) -> i32 {
    record::sent(who, skb);
    Skb::redirect_peer(ifindex)
}

/// To the tunnel device, which has no Ethernet headers: the kernel takes this one off.
#[inline(always)]
fn to_tunnel(skb: Skb, who: Identity, ifindex: u32) -> i32 {
    record::sent(who, skb);
    Skb::redirect(ifindex)
}

/// To the host's stack, with the mark without which the host forwards nothing.
#[inline(always)]
fn to_stack(skb: Skb, who: Identity) -> Result<i32, Reason> {
    let node = Kernel.node().ok_or(Reason::NoConfig)?;
    skb.set_mark(node.pass_mark, node.mark_mask);
    record::sent(who, skb);
    Ok(TC_ACT_OK)
}

#[inline(never)]
fn resolve(skb: Skb, who: Identity, question: &Question) -> Result<i32, Reason> {
    let scratch = &mut maps::scratch().ok_or(Reason::NoConfig)?.dns;
    match dns::answer(&Kernel, &question.asker, &skb, question.at, question.len, scratch) {
        Outcome::Answer(len) => {
            reply_with(skb, question.at, scratch, len).map_err(|Refused| Reason::KernelRefused)?;
            record::answered(who);
            Ok(Skb::redirect_peer(skb.ifindex()))
        }
        Outcome::Forward => to_stack(skb, who),
        Outcome::Drop(reason) => Err(reason),
    }
}

/// Replaces the datagram's payload, at `at`, by the first `len` octets of the message, and turns its headers round.
#[inline(always)]
fn reply_with(skb: Skb, at: u32, scratch: &dns::Scratch, len: u32) -> Result<(), Refused> {
    const IP: u32 = ETHERNET_LEN;
    const UDP: u32 = IP + size_of::<Ipv4>() as u32;
    let ethernet: Ethernet = skb.load(0).ok_or(Refused)?;
    let ip: Ipv4 = skb.load(IP).ok_or(Refused)?;
    let udp: Udp = skb.load(UDP).ok_or(Refused)?;
    skb.set_len(at + len)?;
    skb.store_first(at, &scratch.message, len)?;
    let (ip, udp) = reply::datagram(ip, udp, Sum::ZERO.message(&scratch.message, len), len as u16);
    skb.store(UDP, &udp)?;
    skb.store(IP, &ip)?;
    skb.store(0, &reply::ethernet(ethernet))
}

/// Turns an echo request round where it stands.
#[inline(never)]
fn turn_echo(skb: Skb, who: Identity, &Echo { family, at }: &Echo) -> Result<i32, Refused> {
    let ethernet: Ethernet = skb.load(0).ok_or(Refused)?;
    match family {
        Family::V4 => {
            const ADDRESSES: u32 = ETHERNET_LEN + core::mem::offset_of!(Ipv4, source) as u32;
            let [source, destination]: [u32; 2] = skb.load(ADDRESSES).ok_or(Refused)?;
            skb.store(ADDRESSES, &[destination, source])?;
        }
        Family::V6 => {
            const ADDRESSES: u32 = ETHERNET_LEN + core::mem::offset_of!(dataplane_ebpf::packet::Ipv6, source) as u32;
            let [s0, s1, s2, s3, d0, d1, d2, d3]: [u32; 8] = skb.load(ADDRESSES).ok_or(Refused)?;
            skb.store(ADDRESSES, &[d0, d1, d2, d3, s0, s1, s2, s3])?;
        }
    }
    let icmp: [u8; 4] = skb.load(at).ok_or(Refused)?;
    skb.store(at, &reply::echo(family, icmp))?;
    skb.store(0, &reply::ethernet(ethernet))?;
    record::sent(who, skb);
    Ok(Skb::redirect_peer(skb.ifindex()))
}
