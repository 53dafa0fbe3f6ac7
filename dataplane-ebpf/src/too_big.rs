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

/// Counts the packet as dropped, and sends what there is to say about it back.
#[inline(never)]
pub(crate) fn tell(skb: Skb, who: Identity, &TooBig { family, mtu }: &TooBig) -> Result<i32, Refused> {
    record::packet_dropped(skb, who, Reason::TooBig);
    let Some(maps::Scratch { quote, .. }) = maps::scratch() else { return Ok(TC_ACT_SHOT) };
    match family {
        Family::V4 => {
            let ip: Ipv4 = skb.load(ETHERNET_LEN).ok_or(Refused)?;
            let sum = take(skb, quote, quoted(Family::V4))?;
            turn(skb, quote, quoted(Family::V4), &too_big::v4(ip, mtu, sum))
        }
        Family::V6 => {
            let ip: Ipv6 = skb.load(ETHERNET_LEN).ok_or(Refused)?;
            let sum = take(skb, quote, quoted(Family::V6))?;
            turn(skb, quote, quoted(Family::V6), &too_big::v6(ip, mtu, sum))
        }
    }
}

/// Copies the first octets of the IP packet, and gives their sum.
#[inline(always)]
fn take(skb: Skb, quote: &mut Quote, len: u32) -> Result<Sum, Refused> {
    skb.copy(ETHERNET_LEN, len, quote, 0).ok_or(Refused)?;
    Ok(Sum::ZERO.message(quote, len))
}

/// Makes the frame one of these headers and the quote, to whom it came from.
#[inline(always)]
fn turn<T: Wire>(skb: Skb, quote: &Quote, len: u32, (ip, icmp): &(T, [u16; 4])) -> Result<i32, Refused> {
    let icmp_at = ETHERNET_LEN + size_of::<T>() as u32;
    let ethernet: Ethernet = skb.load(0).ok_or(Refused)?;
    skb.set_len(icmp_at + ICMP_LEN + len)?;
    skb.store_first(icmp_at + ICMP_LEN, quote, len)?;
    skb.store(icmp_at, icmp)?;
    skb.store(ETHERNET_LEN, ip)?;
    skb.store(0, &reply::ethernet(ethernet))?;
    Ok(Skb::redirect_peer(skb.ifindex()))
}
