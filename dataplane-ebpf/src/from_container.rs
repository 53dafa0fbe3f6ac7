//! tc ingress on the host end of a veth: everything a replica sends.
//!
//! What is long, or rarely gone through, is an exported function: the kernel verifies such a function once, for
//! whatever its arguments may be, and not again in each state in which a packet comes to it. Its arguments are the
//! context and numbers; the rest is handed over in [`maps::Scratch`], which each of them looks up for itself.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_OK, TC_ACT_SHOT},
    macros::classifier,
    programs::TcContext,
};
use dataplane_ebpf::{
    abi::{Identity, Reason},
    checksum::Sum,
    decide::{
        Decision, Delivery, Echo, Frame, Question, Verdict,
        stages::{self, Sender, Step},
    },
    dns::{self, Outcome},
    packet::{Bytes as _, ETHERNET_LEN, Ethernet, Family, Ipv4, Ipv6, Udp, reply},
    tables::Tables as _,
};

use crate::{
    kernel::Kernel,
    maps, record,
    skb::{Refused, Skb},
    stage,
};

#[classifier]
#[inline(always)]
fn from_container(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    let Some(Decision { who, verdict }) = decision(skb) else { return TC_ACT_SHOT };
    let done = match verdict {
        Verdict::Deliver(delivery) => deliver(skb, who, &delivery),
        Verdict::Stack | Verdict::Pass => to_stack(skb, who),
        Verdict::Dns(question) => ask(skb, who, question),
        Verdict::Echo(Echo { family, at }) => {
            let v6 = matches!(family, Family::V6);
            stage::result(turn_echo(skb.raw(), who.env, who.service, v6.into(), at))
        }
        Verdict::Drop(reason) => Err(reason),
    };
    done.unwrap_or_else(|reason| record::packet_dropped(skb, who, reason))
}

/// Goes through the stages as [`dataplane_ebpf::decide::from_container`] does.
#[inline(always)]
fn decision(skb: Skb) -> Option<Decision> {
    let step = match stages::near(&sender(&skb, &skb.frame()), &mut maps::scratch()?.work) {
        Ok(Step::Cross) => stage::result(cross(skb.raw())).map(|_| Step::Deliver),
        Ok(Step::Leave) => stage::result(leave(skb.raw())).map(|_| Step::Stack),
        step => step,
    };
    Some(stages::decided(step, &maps::scratch()?.work))
}

#[inline(always)]
fn sender<'a>(skb: &'a Skb, frame: &'a Frame) -> Sender<'a, Kernel, Skb, Skb> {
    Sender { tables: &Kernel, host: skb, frame, bytes: skb }
}

#[unsafe(no_mangle)]
extern "C" fn cross(skb: *mut __sk_buff) -> i32 {
    let skb = Skb::from_raw(skb);
    stage::number(match maps::scratch() {
        Some(scratch) => stages::cross(&sender(&skb, &skb.frame()), &mut scratch.work).map(|()| TC_ACT_OK),
        None => Err(Reason::NoConfig),
    })
}

#[unsafe(no_mangle)]
extern "C" fn leave(skb: *mut __sk_buff) -> i32 {
    let skb = Skb::from_raw(skb);
    stage::number(match maps::scratch() {
        Some(scratch) => stages::leave(&sender(&skb, &skb.frame()), &mut scratch.work).map(|()| TC_ACT_OK),
        None => Err(Reason::NoConfig),
    })
}

/// Into the replica's netns. Both MACs are rewritten: to the receiver, every packet comes from its gateway.
#[inline(always)]
fn deliver(skb: Skb, who: Identity, to: &Delivery) -> Result<i32, Reason> {
    skb.store(0, &[to.mac, to.gateway_mac]).map_err(|Refused| Reason::KernelRefused)?;
    record::sent(who, skb);
    Ok(Skb::redirect_peer(to.ifindex))
}

/// To the host's stack, with the mark without which the host forwards nothing.
#[inline(always)]
fn to_stack(skb: Skb, who: Identity) -> Result<i32, Reason> {
    let node = Kernel.node().ok_or(Reason::NoConfig)?;
    skb.set_mark(node.pass_mark, node.mark_mask);
    record::sent(who, skb);
    Ok(TC_ACT_OK)
}

/// Answers a question, or leaves it to the forwarder.
#[inline(always)]
fn ask(skb: Skb, who: Identity, question: Question) -> Result<i32, Reason> {
    maps::scratch().ok_or(Reason::NoConfig)?.question = question;
    match stage::result(resolve(skb.raw()))? {
        TC_ACT_OK => to_stack(skb, who),
        action => {
            record::answered(who);
            Ok(action)
        }
    }
}

/// Answers the question in the scratch memory, unless it is the forwarder's: then the action is to pass it on.
#[unsafe(no_mangle)]
extern "C" fn resolve(skb: *mut __sk_buff) -> i32 {
    let skb = Skb::from_raw(skb);
    let Some(maps::Scratch { question: Question { asker, at, len }, dns, .. }) = maps::scratch() else {
        return stage::number(Err(Reason::NoConfig));
    };
    stage::number(match dns::answer(&Kernel, asker, &skb, *at, *len, dns) {
        Outcome::Answer(len) => match reply_with(skb, *at, dns, len) {
            Ok(()) => Ok(Skb::redirect_peer(skb.ifindex())),
            Err(Refused) => Err(Reason::KernelRefused),
        },
        Outcome::Forward => Ok(TC_ACT_OK),
        Outcome::Drop(reason) => Err(reason),
    })
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

/// Turns the echo request whose ICMP header is at `at` round where it stands, and counts it for the identity.
#[unsafe(no_mangle)]
extern "C" fn turn_echo(skb: *mut __sk_buff, env: u32, service: u32, v6: u32, at: u32) -> i32 {
    let skb = Skb::from_raw(skb);
    let family = if v6 == 0 { Family::V4 } else { Family::V6 };
    stage::number(match turned(skb, family, at) {
        Ok(()) => {
            record::sent(Identity { env, service }, skb);
            Ok(Skb::redirect_peer(skb.ifindex()))
        }
        Err(Refused) => Err(Reason::KernelRefused),
    })
}

#[inline(always)]
fn turned(skb: Skb, family: Family, at: u32) -> Result<(), Refused> {
    let ethernet: Ethernet = skb.load(0).ok_or(Refused)?;
    match family {
        Family::V4 => {
            const ADDRESSES: u32 = ETHERNET_LEN + core::mem::offset_of!(Ipv4, source) as u32;
            let [source, destination]: [u32; 2] = skb.load(ADDRESSES).ok_or(Refused)?;
            skb.store(ADDRESSES, &[destination, source])?;
        }
        Family::V6 => {
            const ADDRESSES: u32 = ETHERNET_LEN + core::mem::offset_of!(Ipv6, source) as u32;
            let [s0, s1, s2, s3, d0, d1, d2, d3]: [u32; 8] = skb.load(ADDRESSES).ok_or(Refused)?;
            skb.store(ADDRESSES, &[d0, d1, d2, d3, s0, s1, s2, s3])?;
        }
    }
    let icmp: [u8; 4] = skb.load(at).ok_or(Refused)?;
    skb.store(at, &reply::echo(family, icmp))?;
    skb.store(0, &reply::ethernet(ethernet))
}
