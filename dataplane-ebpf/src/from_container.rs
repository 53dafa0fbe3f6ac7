//! skeleton
use aya_ebpf::{bindings::TC_ACT_SHOT, macros::classifier, programs::TcContext};

#[classifier]
fn from_container(_ctx: TcContext) -> i32 {
    TC_ACT_SHOT
}
