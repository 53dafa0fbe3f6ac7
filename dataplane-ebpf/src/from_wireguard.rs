//! tc ingress on the tunnel device: everything that other nodes send.

use aya_ebpf::{bindings::TC_ACT_SHOT, macros::classifier, programs::TcContext};
use dataplane_ebpf::{
    abi::{Identity, Reason},
    decide::{self, Decision, Verdict},
};

use crate::{
    kernel::Kernel,
    maps::{self, Scratch},
    record,
    skb::{Refused, Skb},
};

#[classifier]
#[inline(always)]
fn from_wireguard(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    let Some(scratch) = maps::scratch() else { return TC_ACT_SHOT };
    match skb.add_ethernet() {
        Ok(()) => {
            let decision = decide::from_wireguard(&Kernel, &skb, &skb.frame(), &skb, &mut scratch.work);
            carry_out(skb, decision, scratch)
        }
        Err(Refused) => record::packet_dropped(skb, Identity::WORLD, Reason::KernelRefused),
    }
}

/// Into a replica or nowhere: the host's own addresses are not reached through the tunnel.
#[inline(always)]
fn carry_out(skb: Skb, Decision { who, verdict }: Decision, scratch: &Scratch) -> i32 {
    let reason = match verdict {
        Verdict::Deliver { ifindex } => {
            let (receiver, addresses) = scratch.work.receiver();
            match skb.store(0, &addresses) {
                Ok(()) => {
                    record::received(receiver, skb);
                    return Skb::redirect_peer(ifindex);
                }
                Err(Refused) => Reason::KernelRefused,
            }
        }
        Verdict::Drop(reason) => reason,
        _ => return TC_ACT_SHOT,
    };
    record::packet_dropped(skb, who, reason)
}
