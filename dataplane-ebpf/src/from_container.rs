//! skeleton
use aya_ebpf::{bindings::TC_ACT_SHOT, macros::classifier, programs::TcContext};
use dataplane_ebpf::tables::Tables as _;

use crate::kernel::Kernel;

#[classifier]
fn from_container(ctx: TcContext) -> i32 {
    // SAFETY: the kernel's context lives as long as the program runs.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    match Kernel.device(ifindex) {
        Ok(Some(device)) => device.identity.env as i32,
        _ => TC_ACT_SHOT,
    }
}
