//! A packet as the kernel hands it to a tc program.

use core::mem::{MaybeUninit, offset_of};

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup,
    },
    helpers::{
        bpf_ktime_get_ns,
        generated::{
            bpf_fib_lookup as fib_lookup, bpf_redirect, bpf_redirect_peer, bpf_skb_change_head, bpf_skb_change_tail,
            bpf_skb_load_bytes, bpf_skb_store_bytes,
        },
    },
    programs::TcContext,
};
use dataplane_ebpf::{
    abi::{Budget, Flow, FlowKey},
    decide::Frame,
    packet::{Bytes, ETHERNET_LEN, Ethernet, Family, Packet, Wire},
    tables::{Host, Route},
};

use crate::maps;

/// Address families as `bpf_fib_lookup` wants them.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// A packet on its way through a tc program.
#[derive(Clone, Copy)]
pub(crate) struct Skb(*mut __sk_buff);

/// The kernel refused to change the packet, for want of memory.
pub(crate) struct Refused;

impl Skb {
    pub(crate) fn new(ctx: &TcContext) -> Self {
        Self(ctx.skb.skb)
    }

    #[inline(always)]
    fn context(&self) -> &__sk_buff {
        // SAFETY: the context of the running program; the kernel checks every access to it when it loads the program.
        unsafe { &*self.0 }
    }

    #[inline(always)]
    pub(crate) fn frame(&self) -> Frame {
        let context = self.context();
        Frame {
            ifindex: context.ifindex,
            ingress_ifindex: context.ingress_ifindex,
            mark: context.mark,
            vlan: context.vlan_present != 0,
            gso: context.gso_size as u16,
        }
    }

    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        self.context().ifindex
    }

    /// Gives the packet the bits of `mark` within `mask`.
    #[inline(always)]
    pub(crate) fn set_mark(&self, mark: u32, mask: u32) {
        // SAFETY: the mark is one of the fields a tc program may write.
        unsafe { (*self.0).mark = (*self.0).mark & !mask | mark };
    }

    /// Overwrites what is at `offset`.
    #[inline(always)]
    pub(crate) fn store<T: Wire>(&self, offset: u32, header: &T) -> Result<(), Refused> {
        // SAFETY: reads as many octets as the header has.
        done(unsafe {
            bpf_skb_store_bytes(self.0.cast(), offset, core::ptr::from_ref(header).cast(), size_of::<T>() as u32, 0)
        })
    }

    /// Overwrites what is at `offset` with the first `len` octets of `from`, 1 to half of `N`, a power of two.
    #[inline(always)]
    pub(crate) fn store_first<const N: usize>(&self, offset: u32, from: &[u8; N], len: u32) -> Result<(), Refused> {
        let len = masked_len::<N>(len);
        // SAFETY: `masked_len` is at most `N`.
        done(unsafe { bpf_skb_store_bytes(self.0.cast(), offset, from.as_ptr().cast(), len, 0) })
    }

    /// Makes the packet `len` octets long.
    #[inline(always)]
    pub(crate) fn set_len(&self, len: u32) -> Result<(), Refused> {
        // SAFETY: no pointer but the context's.
        done(unsafe { bpf_skb_change_tail(self.0, len, 0) })
    }

    /// Puts an Ethernet header in front of a packet of a device that has none; it says no more than the type.
    #[inline(always)]
    pub(crate) fn add_ethernet(&self) -> Result<(), Refused> {
        let first = self.head::<[u8; 4], 0>().map_or(0, |[octet, ..]| octet);
        // SAFETY: no pointer but the context's.
        done(unsafe { bpf_skb_change_head(self.0, ETHERNET_LEN, 0) })?;
        self.store(0, &Ethernet::before(first))
    }

    /// The action that sends the packet out through the device `ifindex`.
    #[inline(always)]
    pub(crate) fn redirect(ifindex: u32) -> i32 {
        // SAFETY: no pointer.
        unsafe { bpf_redirect(ifindex, 0) as i32 }
    }

    /// The action that puts the packet into the netns at the other end of the veth `ifindex`, past the host's stack.
    ///
    /// To send a packet back as well: `bpf_redirect` would meet our own `to_container`.
    #[inline(always)]
    pub(crate) fn redirect_peer(ifindex: u32) -> i32 {
        // SAFETY: no pointer.
        unsafe { bpf_redirect_peer(ifindex, 0) as i32 }
    }
}

#[inline(always)]
fn done(result: i64) -> Result<(), Refused> {
    if result == 0 { Ok(()) } else { Err(Refused) }
}

/// A length from 1 to half of `N`, in the shape in which the verifier sees that it is no other.
#[inline(always)]
fn masked_len<const N: usize>(len: u32) -> u32 {
    (len.wrapping_sub(1) & (N as u32 / 2 - 1)) + 1
}

/// Reads memory of the given width at an address and a fixed offset, by an instruction of its own.
///
/// In the packet, because it begins at any address: the compiler would read octet by octet, which these machines do not
/// need. In the context, because what looks like 32 bits there is a whole pointer, which the compiler would extend.
macro_rules! read {
    ($width:literal, $at:expr, $offset:expr) => {{
        let value: usize;
        core::arch::asm!(
            concat!("{value} = *(", $width, " *)({at} + {offset})"),
            value = out(reg) value, at = in(reg) $at, offset = const $offset,
        );
        value
    }};
}

impl Bytes for Skb {
    #[inline(always)]
    fn len(&self) -> u32 {
        self.context().len
    }

    /// By a helper, which reaches what lies outside of the packet's first buffer, too, and leaves it aligned.
    #[inline(always)]
    fn load<T: Wire>(&self, offset: u32) -> Option<T> {
        let mut header = MaybeUninit::<T>::uninit();
        // SAFETY: writes as many octets as the header has.
        let result =
            unsafe { bpf_skb_load_bytes(self.0.cast(), offset, header.as_mut_ptr().cast(), size_of::<T>() as u32) };
        // SAFETY: all of it was written, and any octets make a `Wire`.
        if result == 0 { Some(unsafe { header.assume_init() }) } else { None }
    }

    /// Where it lies, when the packet's first buffer goes as far, which it does for what sockets send.
    #[inline(always)]
    fn head<T: Wire, const OFFSET: u32>(&self) -> Option<T> {
        // SAFETY: fields of the context, which the kernel turns into the pointers that they stand for.
        let (start, end) = unsafe {
            (read!("u32", self.0, offset_of!(__sk_buff, data)), read!("u32", self.0, offset_of!(__sk_buff, data_end)))
        };
        let at = start + OFFSET as usize;
        if at + size_of::<T>() > end {
            return self.load(OFFSET);
        }
        let mut header = MaybeUninit::<T>::uninit();
        let (words, mut i) = (header.as_mut_ptr().cast::<u32>(), 0);
        while i < size_of::<T>() / 4 {
            // SAFETY: four octets of the header, which ends before the packet does.
            unsafe { words.add(i).write_unaligned(read!("u32", at + 4 * i, 0) as u32) };
            i += 1;
        }
        if size_of::<T>() % 4 == 2 {
            // SAFETY: its last two octets.
            unsafe { words.add(i).cast::<u16>().write_unaligned(read!("u16", at + 4 * i, 0) as u16) };
        }
        // SAFETY: all of it was written, and any octets make a `Wire`.
        Some(unsafe { header.assume_init() })
    }

    #[inline(always)]
    fn copy<const N: usize>(&self, offset: u32, len: u32, to: &mut [u8; N], at: u32) -> Option<()> {
        let (half, len) = (N as u32 / 2, masked_len::<N>(len));
        // SAFETY: `at` below the half and at most a half of octets stay within `to`.
        let result = unsafe {
            let to = to.as_mut_ptr().add((at & (half - 1)) as usize);
            bpf_skb_load_bytes(self.0.cast(), offset, to.cast(), len)
        };
        (result == 0).then_some(())
    }
}

impl Host for Skb {
    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: no pointer.
        unsafe { bpf_ktime_get_ns() }
    }

    #[cfg_attr(target_arch = "bpf", inline(never))]
    fn route(&self, packet: &Packet) -> Route {
        // SAFETY: integers and unions of them, for which zero is a value.
        let mut params: bpf_fib_lookup = unsafe { core::mem::zeroed() };
        params.ifindex = self.ifindex();
        params.l4_protocol = packet.protocol;
        // With no length given, the kernel measures the packet itself, segmentation offload included.
        match packet.family {
            Family::V4 => {
                params.family = AF_INET;
                params.__bindgen_anon_3.ipv4_src = packet.source.v4_word();
                params.__bindgen_anon_4.ipv4_dst = packet.destination.v4_word();
            }
            Family::V6 => {
                params.family = AF_INET6;
                params.__bindgen_anon_3.ipv6_src = packet.source.0;
                params.__bindgen_anon_4.ipv6_dst = packet.destination.0;
            }
        }
        let len = size_of::<bpf_fib_lookup>() as i32;
        // SAFETY: the parameters live until the helper returns, and the length is theirs.
        let result = unsafe { fib_lookup(self.0.cast(), &raw mut params, len, 0) };
        match u32::try_from(result) {
            // Neighbours are the stack's business, and so is telling the sender that a packet is too big.
            Ok(BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_NO_NEIGH | BPF_FIB_LKUP_RET_FRAG_NEEDED) => {
                Route::Forward { ifindex: params.ifindex }
            }
            _ => Route::No,
        }
    }

    #[inline(always)]
    fn admit(&self, ifindex: u32) -> bool {
        let now = self.now();
        let Some(budget) = maps::BUDGETS.get_ptr_mut(&ifindex) else {
            let budget = Budget { tokens: Budget::BURST - 1, refilled: now };
            return maps::BUDGETS.insert(&ifindex, &budget, 0).is_ok();
        };
        // SAFETY: an element of the map, whose memory stays. Two CPUs that serve one device may both take the same
        // token, which makes the budget generous by it.
        unsafe {
            match (*budget).take(now) {
                Some(left) => *budget = left,
                None => return false,
            }
        }
        true
    }

    /// Full or contended, the table may refuse; the sender's next packet tries again.
    #[inline(always)]
    fn remember(&self, key: &FlowKey, flow: &Flow) {
        let _ = maps::FLOWS.insert(key, flow, 0);
    }

    #[inline(always)]
    fn touch(&self, key: &FlowKey, now: u64) {
        if let Some(flow) = maps::FLOWS.get_ptr_mut(key) {
            // SAFETY: an element of the map, whose memory stays; were it recycled meanwhile, another flow's life would
            // be longer by a moment.
            unsafe { (&raw mut (*flow).last_seen).write_volatile(now) };
        }
    }
}
