//! What the sender of a packet gets that does not fit through a tunnel.

use anyhow::{Result, ensure};

use crate::octets::{half, sum, swapped, verifies};

/// Checks that an oversize packet was turned into what RFC 792 and 1191, or RFC 4443, say about it.
pub(crate) fn check_too_big(packet: &[u8], answer: &[u8], mtu: u32) -> Result<()> {
    ensure!(swapped(packet, answer, 0..6, 6..12) && packet[12..14] == answer[12..14], "the Ethernet header");
    let (icmp, quoted) = if packet[12..14] == [8, 0] {
        ensure!(answer.len() == 14 + 576, "{} octets", answer.len());
        ensure!(answer[14] == 0x45 && usize::from(half(answer, 16)?) == 576, "version, header length, total length");
        ensure!(half(answer, 20)? & 0x3fff == 0 && answer[22] > 1 && answer[23] == 1, "whole, alive, ICMP");
        ensure!(verifies(&answer[14..34], 0), "header checksum");
        ensure!(swapped(packet, answer, 26..30, 30..34), "addresses");
        ensure!(answer[34..36] == [3, 4] && answer[38..40] == [0; 2], "fragmentation needed");
        ensure!(u32::from(half(answer, 40)?) == mtu, "the MTU");
        ensure!(verifies(&answer[34..], 0), "ICMP checksum");
        (34, 548)
    } else {
        ensure!(answer.len() == 14 + 1_280, "{} octets", answer.len());
        ensure!(answer[14] >> 4 == 6 && usize::from(half(answer, 18)?) == 1_240, "version, length");
        ensure!(answer[20] == 58 && answer[21] > 1, "ICMPv6, alive");
        ensure!(swapped(packet, answer, 22..38, 38..54), "addresses");
        ensure!(answer[54..56] == [2, 0] && answer[58..62] == mtu.to_be_bytes(), "packet too big, the MTU");
        ensure!(verifies(&answer[54..], sum(&answer[22..54]) + 58 + 1_240), "ICMPv6 checksum");
        (54, 1_232)
    };
    ensure!(answer[icmp + 8..] == packet[14..14 + quoted], "the quote");
    Ok(())
}
