//! From the host: TCP segments that its stack has left in one packet are cut apart.

use super::offload::{HEAD_MAX, IPV4_LEN, IPV6_LEN, Kind, Offload, TCP_CHECKSUM, is_ipv4, pseudo, set_len};

/// Flags of TCP that only the last segment has (RFC 9293 section 3.1).
const FIN_PSH: u8 = 0x01 | 0x08;

/// Gives the packets that this one stands for, in their order and complete. `None`, and nothing given: it makes no sense,
/// which nothing does that the host's stack has made.
pub(super) fn split(offload: &Offload, packet: &mut [u8], mut each: impl FnMut(&[u8])) -> Option<()> {
    match offload.kind {
        Kind::One => {
            offload.complete(packet)?;
            each(packet);
            Some(())
        }
        Kind::Tcp4 | Kind::Tcp6 => cut(offload, packet, each),
        Kind::Other => None,
    }
}

fn cut(offload: &Offload, packet: &mut [u8], mut each: impl FnMut(&[u8])) -> Option<()> {
    let (ip_len, step) = (usize::from(offload.checksum_start), usize::from(offload.step));
    let v4 = is_ipv4(packet);
    let head_len = ip_len + usize::from(packet.get(ip_len + 12)? >> 4) * 4;
    let (kind, shortest) = if v4 { (Kind::Tcp4, IPV4_LEN) } else { (Kind::Tcp6, IPV6_LEN) };
    let sound = offload.kind == kind && ip_len >= shortest && head_len >= ip_len + 20 && head_len <= HEAD_MAX;
    if !sound || step == 0 || v4 && usize::from(packet[0] & 0xf) * 4 != ip_len {
        return None;
    }
    let mut head = [0; HEAD_MAX];
    let head = &mut head[..head_len];
    head.copy_from_slice(packet.get(..head_len)?);
    let mut id = u16::from_be_bytes([head[4], head[5]]);
    let sequence = ip_len + 4..ip_len + 8;
    let mut next = u32::from_be_bytes(head[sequence.clone()].try_into().ok()?);
    let flags = head[ip_len + 13];

    let payload = packet.len() - head_len;
    let mut begin = 0;
    while begin == 0 || begin < payload {
        let len = step.min(payload - begin);
        // The payload of the one before has been taken: its end is where the headers of this one go.
        let segment = &mut packet[begin..begin + head_len + len];
        segment[..head_len].copy_from_slice(head);
        begin += len.max(1);
        if v4 {
            segment[4..6].copy_from_slice(&id.to_be_bytes());
        }
        set_len(segment);
        segment[sequence.clone()].copy_from_slice(&next.to_be_bytes());
        if begin < payload {
            segment[ip_len + 13] = flags & !FIN_PSH;
        }
        segment[ip_len + TCP_CHECKSUM..ip_len + TCP_CHECKSUM + 2].fill(0);
        let sum = pseudo(segment, ip_len).octets(&segment[ip_len..]).finish();
        segment[ip_len + TCP_CHECKSUM..ip_len + TCP_CHECKSUM + 2].copy_from_slice(&sum.to_ne_bytes());
        each(segment);
        (id, next) = (id.wrapping_add(1), next.wrapping_add(len as u32));
    }
    Some(())
}
