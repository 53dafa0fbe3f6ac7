//! The answer to a packet that does not fit through a tunnel, made of the packet itself.

use aya_ebpf::bindings::TC_ACT_SHOT;
use dataplane_ebpf::{
    abi::{Identity, Reason},
    checksum::Sum,
    decide::TooBig,
    packet::{
        Bytes as _, ETHERNET_LEN, Ethernet, Family, Ipv4, Ipv6, Wire, reply,
        too_big::{self, ICMP_LEN, Quote, quoted},
    },
};

use crate::{
    maps, record,
    skb::{Refused, Skb},
};

/// Drops the packet and counts it, and sends what there is to say about it back.
#[inline(never)]
pub(crate) fn tell(skb: Skb, who: Identity, &TooBig { family, mtu }: &TooBig) -> i32 {
    let Some(scratch) = maps::scratch() else { return TC_ACT_SHOT };
    record::dropped(who, Reason::TooBig, scratch.work.too_big());
    turn(skb, &mut scratch.quote, family, mtu).unwrap_or(TC_ACT_SHOT)
}

/// Makes the packet what there is to say about it, and gives the action that sends it back; `None`: the kernel refuses.
#[inline(always)]
fn turn(skb: Skb, quote: &mut Quote, family: Family, mtu: u32) -> Option<i32> {
    match family {
        Family::V4 => {
            let ip: Ipv4 = skb.load(ETHERNET_LEN)?;
            let sum = take(skb, quote, quoted(Family::V4))?;
            put(skb, quote, quoted(Family::V4), &too_big::v4(ip, mtu, sum)).ok()?;
        }
        Family::V6 => {
            let ip: Ipv6 = skb.load(ETHERNET_LEN)?;
            let sum = take(skb, quote, quoted(Family::V6))?;
            put(skb, quote, quoted(Family::V6), &too_big::v6(ip, mtu, sum)).ok()?;
        }
    }
    Some(Skb::redirect_peer(skb.ifindex()))
}

/// Copies the first octets of the IP packet, and gives their sum.
#[inline(always)]
fn take(skb: Skb, quote: &mut Quote, len: u32) -> Option<Sum> {
    skb.copy(ETHERNET_LEN, len, quote, 0)?;
    Some(Sum::ZERO.message(quote, len))
}

/// Makes the frame one of these headers and the quote, to whom it came from.
#[inline(always)]
fn put<T: Wire>(skb: Skb, quote: &Quote, len: u32, (ip, icmp): &(T, [u16; 4])) -> Result<(), Refused> {
    let icmp_at = ETHERNET_LEN + size_of::<T>() as u32;
    let ethernet: Ethernet = skb.load(0).ok_or(Refused)?;
    skb.set_len(icmp_at + ICMP_LEN + len)?;
    skb.store_first(icmp_at + ICMP_LEN, quote, len)?;
    skb.store(icmp_at, icmp)?;
    skb.store(ETHERNET_LEN, ip)?;
    skb.store(0, &reply::ethernet(ethernet))
}
