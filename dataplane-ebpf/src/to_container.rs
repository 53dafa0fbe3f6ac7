//! tc egress on the host end of a veth: what the host's stack sends to a replica.

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT},
    macros::classifier,
    programs::TcContext,
};
use dataplane_ebpf::decide::{self, Decision, Verdict};

use crate::{kernel::Kernel, maps, record, skb::Skb};

#[classifier]
#[inline(always)]
fn to_container(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    match maps::scratch() {
        Some(scratch) => carry_out(skb, decide::to_container(&Kernel, &skb, &skb.frame(), &skb, &mut scratch.work)),
        None => TC_ACT_SHOT,
    }
}

#[inline(always)]
fn carry_out(skb: Skb, Decision { who, verdict }: Decision) -> i32 {
    match verdict {
        Verdict::Drop(reason) => record::packet_dropped(skb, who, reason),
        _ => {
            record::received(who, skb);
            TC_ACT_OK
        }
    }
}
