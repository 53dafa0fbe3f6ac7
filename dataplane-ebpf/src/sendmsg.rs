//! Where a datagram without a connection goes.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::socket::{self, V4, V6};

#[cgroup_sock_addr(sendmsg4)]
fn sendmsg4(ctx: SockAddrContext) -> i32 {
    if socket::is_to_own_peer(&ctx) { socket::PROCEED } else { socket::sendmsg::<V4>(&ctx) }
}

#[cgroup_sock_addr(sendmsg6)]
fn sendmsg6(ctx: SockAddrContext) -> i32 {
    socket::sendmsg::<V6>(&ctx)
}
