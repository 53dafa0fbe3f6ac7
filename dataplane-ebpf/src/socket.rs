//! What the socket programs share: the address in the kernel's context, and a socket's memory.
//!
//! These hooks run in process context and may be preempted: no per-CPU scratch, only the stack and the
//! socket's own storage.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock_addr},
    helpers::{bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_set_retval, bpf_setsockopt, bpf_sk_storage_get},
    programs::SockAddrContext,
};
use core::ptr;
use dataplane_ebpf::{
    abi::{Addr, FlowKey, Reason, SOCKET_ENTRIES, SocketEntry, SocketState},
    decide::{
        mark,
        socket::{self, Attempt, Choice, Decision, Memory, Outcome, TCP},
    },
    tables::Tables as _,
};

use crate::{kernel::Kernel, maps::SOCKETS, record};

/// What a program returns to let the call go on.
pub(crate) const PROCEED: i32 = 1;
/// What it returns to end the call, with what `bpf_set_retval` said.
const END: i32 = 0;

/// `EPERM`.
const EPERM: i32 = 1;
/// `ECONNREFUSED`.
const ECONNREFUSED: i32 = 111;
/// `ENOMEM`.
const ENOMEM: i32 = 12;

/// Where the address of a call lies in the context: each hook may touch only its own family's field.
pub(crate) trait Family {
    /// The address.
    fn addr(ctx: *mut bpf_sock_addr) -> Addr;
    /// Replaces it, by one of the same family.
    fn set_addr(ctx: *mut bpf_sock_addr, addr: &Addr);
}

/// `user_ip4`.
pub(crate) struct V4;

impl Family for V4 {
    #[inline(always)]
    fn addr(ctx: *mut bpf_sock_addr) -> Addr {
        // SAFETY: the kernel's context lives as long as the program runs; volatile, so that the access keeps its size.
        Addr::from_v4_word(unsafe { ptr::read_volatile(&raw const (*ctx).user_ip4) })
    }

    #[inline(always)]
    fn set_addr(ctx: *mut bpf_sock_addr, addr: &Addr) {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(&raw mut (*ctx).user_ip4, addr.v4_word()) }
    }
}

/// `user_ip6`, which also holds v4-mapped addresses, as [`Addr`] does: they go in and out as they are.
pub(crate) struct V6;

impl Family for V6 {
    #[inline(always)]
    fn addr(ctx: *mut bpf_sock_addr) -> Addr {
        // SAFETY: the kernel's context lives as long as the program runs; volatile, so that each access keeps its size.
        unsafe {
            let word = &raw const (*ctx).user_ip6;
            let word = word.cast::<u32>();
            Addr([
                ptr::read_volatile(word),
                ptr::read_volatile(word.add(1)),
                ptr::read_volatile(word.add(2)),
                ptr::read_volatile(word.add(3)),
            ])
        }
    }

    #[inline(always)]
    fn set_addr(ctx: *mut bpf_sock_addr, addr: &Addr) {
        // SAFETY: as above.
        unsafe {
            let word = &raw mut (*ctx).user_ip6;
            let word = word.cast::<u32>();
            ptr::write_volatile(word, addr.0[0]);
            ptr::write_volatile(word.add(1), addr.0[1]);
            ptr::write_volatile(word.add(2), addr.0[2]);
            ptr::write_volatile(word.add(3), addr.0[3]);
        }
    }
}

/// `connect`: a new choice each time.
#[inline(always)]
pub(crate) fn connect<F: Family>(ctx: &SockAddrContext) -> i32 {
    let attempt = attempt::<F>(ctx);
    let decision = socket::connect(&Kernel, &attempt, |_, _| None);
    // Here and not in `carry_out`: `sendmsg` hooks may not set a mark, the verifier would not have them.
    let marked = match decision.outcome {
        Outcome::ToBackend => remember_by_mark(ctx, &attempt),
        Outcome::Pass => {
            if decision.identity.env != 0 {
                unmark(ctx, &attempt);
            }
            false
        }
        Outcome::Refuse | Outcome::Deny => false,
    };
    carry_out::<F>(ctx, &attempt, &decision, marked)
}

/// `sendmsg` without a connection: the choice of the time before, as long as the set is the same.
#[inline(always)]
pub(crate) fn sendmsg<F: Family>(ctx: &SockAddrContext) -> i32 {
    let attempt = attempt::<F>(ctx);
    let decision = socket::send(&Kernel, &attempt, |service, generation| {
        socket::backend_of(&remembered(ctx)?, &attempt.addr, attempt.port, service, generation)
    });
    carry_out::<F>(ctx, &attempt, &decision, false)
}

/// Whether the call goes where the socket is connected to. The kernel runs no `sendmsg` hook for those, except for
/// IPv6 sockets with a v4-mapped peer, which it hands to IPv4 as if the program had named the address each time.
#[inline(always)]
pub(crate) fn is_to_own_peer(ctx: &SockAddrContext) -> bool {
    /// `TCP_ESTABLISHED`, for datagram sockets too.
    const CONNECTED: u32 = 1;
    // SAFETY: the kernel's context and its socket live as long as the program runs; volatile, so that each access
    // keeps its size.
    unsafe {
        let sk = (*ctx.sock_addr).__bindgen_anon_1.sk;
        ptr::read_volatile(&raw const (*sk).state) == CONNECTED
            && ptr::read_volatile(&raw const (*sk).dst_ip4) == V4::addr(ctx.sock_addr).v4_word()
            && ptr::read_volatile(&raw const (*sk).dst_port) == port(ctx)
    }
}

/// `getpeername`: the VIP that the program used, where it was translated.
#[inline(always)]
pub(crate) fn getpeername<F: Family>(ctx: &SockAddrContext) -> i32 {
    match marked(ctx, F::addr(ctx.sock_addr).is_v4()) {
        Some(vip) => {
            F::set_addr(ctx.sock_addr, &vip);
            PROCEED
        }
        None => recvmsg::<F>(ctx),
    }
}

/// `recvmsg`: the same for a datagram.
#[inline(always)]
pub(crate) fn recvmsg<F: Family>(ctx: &SockAddrContext) -> i32 {
    if let Some(memory) = remembered(ctx)
        && let Some(vip) = socket::vip_of(&memory, &F::addr(ctx.sock_addr), port(ctx))
    {
        F::set_addr(ctx.sock_addr, &vip);
    }
    PROCEED
}

#[inline(always)]
fn attempt<F: Family>(ctx: &SockAddrContext) -> Attempt {
    // SAFETY: no arguments, no effects.
    let random = unsafe { bpf_get_prandom_u32() };
    Attempt { cookie: cookie(ctx), protocol: protocol(ctx), addr: F::addr(ctx.sock_addr), port: port(ctx), random }
}

/// Of the socket's network namespace.
#[inline(always)]
fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the helper only reads the context.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }
}

#[inline(always)]
fn protocol(ctx: &SockAddrContext) -> u8 {
    // SAFETY: the kernel's context lives as long as the program runs; volatile, so that the access keeps its size.
    unsafe { ptr::read_volatile(&raw const (*ctx.sock_addr).protocol) as u8 }
}

/// The port, network order.
#[inline(always)]
fn port(ctx: &SockAddrContext) -> u16 {
    // SAFETY: the kernel's context lives as long as the program runs; volatile, so that the access keeps its size.
    unsafe { ptr::read_volatile(&raw const (*ctx.sock_addr).user_port) as u16 }
}

/// `marked`: the choice is written down already.
#[inline(always)]
fn carry_out<F: Family>(ctx: &SockAddrContext, attempt: &Attempt, decision: &Decision, marked: bool) -> i32 {
    match decision.outcome {
        Outcome::Pass => {
            // The program now speaks to this address by itself: what comes from there is not the VIP's any more.
            forget(ctx, attempt);
            PROCEED
        }
        Outcome::ToBackend => {
            if decision.choice.fresh {
                if !marked && !remember(ctx, attempt, &decision.choice) {
                    return end(decision, attempt, Reason::SocketMemory, ENOMEM);
                }
                record::connected(decision.identity, &tuple(decision, attempt, decision.choice.backend));
            }
            F::set_addr(ctx.sock_addr, &decision.choice.backend);
            PROCEED
        }
        Outcome::Refuse => end(decision, attempt, decision.reason.unwrap_or(Reason::NoBackend), ECONNREFUSED),
        Outcome::Deny => end(decision, attempt, decision.reason.unwrap_or(Reason::Denied), EPERM),
    }
}

#[inline(always)]
fn end(decision: &Decision, attempt: &Attempt, reason: Reason, errno: i32) -> i32 {
    record::dropped(decision.identity, reason, &tuple(decision, attempt, attempt.addr));
    // SAFETY: sets what the system call returns; connect and sendmsg hooks may.
    unsafe { bpf_set_retval(-errno) };
    END
}

#[inline(always)]
fn tuple(decision: &Decision, attempt: &Attempt, destination: Addr) -> FlowKey {
    FlowKey {
        source: decision.source,
        destination,
        source_port: 0,
        destination_port: attempt.port,
        protocol: attempt.protocol,
        pad: [0; 3],
    }
}

/// A socket's storage. Threads that share the socket write to it at any time: read and written by volatile
/// accesses through the pointer, never by reference.
struct Storage(*mut SocketState);

impl Storage {
    #[inline(always)]
    fn slot(&self, slot: usize) -> *mut SocketEntry {
        // SAFETY: within the value: the callers' slots are below SOCKET_ENTRIES.
        unsafe { (&raw mut (*self.0).entries).cast::<SocketEntry>().add(slot) }
    }
}

impl Memory for Storage {
    #[inline(always)]
    fn entry(&self, slot: usize) -> SocketEntry {
        // SAFETY: within the value, aligned; every bit pattern is an entry, and a torn one has a bad seal.
        unsafe { ptr::read_volatile(self.slot(slot)) }
    }
}

/// The socket's storage; null becomes `None`.
#[inline(always)]
fn storage(ctx: &SockAddrContext, flags: u32) -> Option<Storage> {
    // SAFETY: the helper takes the context's socket as it is, and gives zeroed storage when it creates it.
    let state = unsafe {
        let sk = (*ctx.sock_addr).__bindgen_anon_1.sk;
        let map = (&raw const SOCKETS).cast_mut().cast();
        bpf_sk_storage_get(map, sk.cast(), ptr::null_mut(), flags.into())
    };
    (!state.is_null()).then_some(Storage(state.cast()))
}

/// The socket's storage, if it ever was sent to a VIP.
#[inline(always)]
fn remembered(ctx: &SockAddrContext) -> Option<Storage> {
    storage(ctx, 0)
}

/// The socket's mark.
#[inline(always)]
fn mark(ctx: &SockAddrContext) -> u32 {
    // SAFETY: the kernel's context and its socket live as long as the program runs; volatile, so that the access keeps
    // its size.
    unsafe { ptr::read_volatile(&raw const (*(*ctx.sock_addr).__bindgen_anon_1.sk).mark) }
}

/// Whether the socket now has that mark.
#[inline(always)]
fn set_mark(ctx: &SockAddrContext, mut mark: u32) -> bool {
    const SOL_SOCKET: i32 = 1;
    const SO_MARK: i32 = 36;
    // SAFETY: the helper reads the four octets that it is given, and nothing else of ours; connect hooks may call it.
    unsafe { bpf_setsockopt(ctx.as_ptr(), SOL_SOCKET, SO_MARK, (&raw mut mark).cast(), size_of::<u32>() as i32) == 0 }
}

/// The VIP of that family that a stream socket's mark says, if the mark is one of ours.
#[inline(always)]
fn marked(ctx: &SockAddrContext, v4: bool) -> Option<Addr> {
    let mark = mark(ctx);
    if mark == 0 || protocol(ctx) != TCP { None } else { mark::vip_of(&Kernel, cookie(ctx), mark, v4) }
}

/// Writes a choice down in the mark of a stream socket; not where the program has a mark of its own there.
#[inline(always)]
fn remember_by_mark(ctx: &SockAddrContext, attempt: &Attempt) -> bool {
    if attempt.protocol != TCP || mark(ctx) != 0 && marked(ctx, attempt.addr.is_v4()).is_none() {
        return false;
    }
    let Some(node) = Kernel.node() else { return false };
    match mark::mark_of(node, &attempt.addr) {
        Some(mark) => set_mark(ctx, mark),
        None => false,
    }
}

/// Takes the mark off a stream socket that now goes to an address of the program's own choice.
#[inline(always)]
fn unmark(ctx: &SockAddrContext, attempt: &Attempt) {
    if marked(ctx, attempt.addr.is_v4()).is_some() {
        set_mark(ctx, 0);
    }
}

/// Writes down a choice: over the same VIP and port, else over the oldest.
#[inline(always)]
fn remember(ctx: &SockAddrContext, attempt: &Attempt, choice: &Choice) -> bool {
    let Some(storage) = storage(ctx, BPF_SK_STORAGE_GET_F_CREATE) else {
        return false;
    };
    let slot = match socket::slot_of(&storage, &attempt.addr, attempt.port) {
        Some(slot) => slot,
        None => {
            // SAFETY: a word of the value, aligned. Atomic, so that two threads take two slots.
            unsafe { record::atomic_add(&raw mut (*storage.0).next, 1) as usize }
        }
    };
    let entry = socket::remember(attempt, choice);
    // SAFETY: masked to within the value (SOCKET_ENTRIES is a power of two); aligned.
    unsafe { ptr::write_volatile(storage.slot(slot & (SOCKET_ENTRIES - 1)), entry) };
    true
}

/// Drops the memory of a backend that the program now addresses by itself.
#[inline(always)]
fn forget(ctx: &SockAddrContext, attempt: &Attempt) {
    if let Some(storage) = remembered(ctx)
        && let Some(slot) = socket::slot_of_backend(&storage, &attempt.addr, attempt.port)
    {
        // SAFETY: masked to within the value; aligned.
        unsafe { ptr::write_volatile(storage.slot(slot & (SOCKET_ENTRIES - 1)), SocketEntry::default()) };
    }
}
