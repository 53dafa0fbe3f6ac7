//! The kernel programs: how each packet and socket of a container is met, decided by the library and carried out here.
//!
//! One file per attach point, all maps in `maps.rs`. Built for the bpf target by `dataplane/build.rs`.
#![no_std]
#![no_main]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a key or value that is handed over by value is on the stack twice, of which there are 512 octets"
)]
// For the one empty `asm!` in `kernel.rs`.
#![feature(asm_experimental_arch)]

mod connect;
mod from_container;
mod from_wireguard;
mod getpeername;
mod kernel;
mod maps;
mod record;
mod recvmsg;
mod sendmsg;
mod skb;
mod socket;
mod to_container;
mod too_big;

/// Never reached: every loop is bounded and every index masked, or the verifier would refuse the program.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel gives some helpers only to programs under a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
