//! The only process of a sandbox: waits for SIGTERM or SIGINT, exits 0. It keeps the network
//! namespace alive, nothing else.
//!
//! Built by the build script without any library: a static file of a few hundred bytes that needs
//! neither libc nor a shell in its image. Signals are blocked and waited for, because the kernel
//! discards an unblocked signal that PID 1 of a namespace has no handler for.
#![no_std]
#![no_main]

use core::arch::{asm, naked_asm};

#[cfg(target_arch = "x86_64")]
mod number {
    pub const RT_SIGPROCMASK: usize = 14;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const EXIT_GROUP: usize = 94;
}

const SIG_BLOCK: usize = 0;
const SIGINT: u64 = 2;
const SIGTERM: u64 = 15;
/// Of the kernel's `sigset_t`.
const SIGSET_BYTES: usize = 8;

/// The kernel enters here with an aligned stack; a call leaves it as every function expects it.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!("xor ebp, ebp", "call {pause}", "ud2", pause = sym pause)
}

/// See above.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!("mov x29, #0", "bl {pause}", "brk #1", pause = sym pause)
}

extern "C" fn pause() -> ! {
    let wanted: u64 = 1 << (SIGTERM - 1) | 1 << (SIGINT - 1);
    let set = &raw const wanted as usize;
    // SAFETY: blocks signals of this process; the kernel reads eight bytes at `set`, which `wanted` has.
    unsafe { syscall(number::RT_SIGPROCMASK, [SIG_BLOCK, set, 0, SIGSET_BYTES]) };
    // SAFETY: waits; as above, and no information about the signal is asked for. A stop and continue
    // ends the wait with EINTR, hence the loop.
    while unsafe { syscall(number::RT_SIGTIMEDWAIT, [set, 0, 0, SIGSET_BYTES]) } < 0 {}
    loop {
        // SAFETY: ends the process.
        unsafe { syscall(number::EXIT_GROUP, [0; 4]) };
    }
}

#[cfg(target_arch = "x86_64")]
unsafe fn syscall(number: usize, arguments: [usize; 4]) -> isize {
    let result;
    // SAFETY: the kernel's calling convention (syscall(2)); the caller answers for the arguments.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn syscall(number: usize, arguments: [usize; 4]) -> isize {
    let result;
    // SAFETY: the kernel's calling convention (syscall(2)); the caller answers for the arguments.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") arguments[0] => result,
            in("x1") arguments[1],
            in("x2") arguments[2],
            in("x3") arguments[3],
            options(nostack),
        );
    }
    result
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
