//! A program run by the kernel over a made packet.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

use super::{bpf, cmd};

#[repr(C)]
struct TestRunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

/// What a program made of a packet (`BPF_PROG_TEST_RUN`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TestRun {
    /// The program's return value.
    pub verdict: u32,
    /// The packet afterwards.
    pub packet: Vec<u8>,
    /// The packet's `struct __sk_buff` afterwards.
    pub context: Vec<u8>,
    /// Mean run time.
    pub duration: Duration,
}

/// Runs a tc program over `packet`, `repeat` times (the kernel runs it anew on what the run before left).
/// `context` is a `struct __sk_buff`, or empty for all zero.
///
/// # Errors
/// The kernel's: `EINVAL` for a packet shorter than an Ethernet header or a context field that cannot be set.
pub fn test_run(program: BorrowedFd<'_>, packet: &[u8], context: &[u8], repeat: u32) -> io::Result<TestRun> {
    // The longest packet that a program may make of it.
    let mut out = vec![0_u8; packet.len().max(256) + 2048];
    // Longer than any kernel's `struct __sk_buff`, which says how much of it counts.
    let mut context_out = vec![0_u8; 512];
    let mut attr = TestRunAttr {
        prog_fd: program.as_raw_fd() as u32,
        retval: 0,
        data_size_in: packet.len() as u32,
        data_size_out: out.len() as u32,
        data_in: packet.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        repeat,
        duration: 0,
        ctx_size_in: context.len() as u32,
        ctx_size_out: context_out.len() as u32,
        ctx_in: if context.is_empty() { 0 } else { context.as_ptr() as u64 },
        ctx_out: context_out.as_mut_ptr() as u64,
        flags: 0,
        cpu: 0,
        batch_size: 0,
        pad: 0,
    };
    // SAFETY: the buffers are as long as their sizes say and live until after the call.
    unsafe { bpf(cmd::PROG_TEST_RUN, &mut attr) }?;
    out.truncate(attr.data_size_out as usize);
    context_out.truncate(attr.ctx_size_out as usize);
    let duration = Duration::from_nanos(u64::from(attr.duration));
    Ok(TestRun { verdict: attr.retval, packet: out, context: context_out, duration })
}
