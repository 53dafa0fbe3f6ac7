//! To the host: TCP segments of one connection that came one after another become one packet.

use dataplane_ebpf::checksum::Sum;

use super::offload::{IPV4_LEN, IPV6_LEN, OFFLOAD_LEN, Offload, TCP_CHECKSUM, is_ipv4, pseudo, set_len};

/// Flags of TCP (RFC 9293 section 3.1).
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
/// The longest packet.
const LEN_MAX: usize = 65_535;

/// Packets that wait for those that follow them. Whatever does not continue them goes after them, so nothing overtakes.
#[derive(Debug, Default)]
pub(super) struct Merge {
    /// What waits, as one packet with the headers of the first.
    packet: Vec<u8>,
    run: Option<Run>,
}

/// Segments that follow each other.
#[derive(Clone, Copy, Debug)]
struct Run {
    shape: Shape,
    /// How many there are.
    count: usize,
    /// The sequence number that continues it.
    next: u32,
    /// It ends with a segment that is shorter, or is to be handed on at once (PSH).
    ended: bool,
}

/// How a TCP segment is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shape {
    ip_len: usize,
    head_len: usize,
    payload: usize,
}

impl Merge {
    /// Takes a packet. `out` gets what is not to wait any longer, with what the device is to be told of it.
    pub(super) fn push(&mut self, packet: &[u8], mut out: impl FnMut([u8; OFFLOAD_LEN], &[u8])) {
        let shape = Shape::of(packet);
        if let (Some(shape), Some(run)) = (shape, self.run)
            && let Some(run) = run.with(shape, &self.packet, packet)
        {
            self.packet.extend_from_slice(&packet[shape.head_len..]);
            // What is to be handed on at once is so with all that was before.
            self.packet[shape.ip_len + 13] |= packet[shape.ip_len + 13];
            self.run = Some(run);
            return;
        }
        self.flush(&mut out);
        match shape {
            Some(shape) => {
                self.packet.extend_from_slice(packet);
                self.run = Some(Run::of(shape, packet));
            }
            None => out(Offload::default().octets(), packet),
        }
    }

    /// Hands on what waits.
    pub(super) fn flush(&mut self, mut out: impl FnMut([u8; OFFLOAD_LEN], &[u8])) {
        match self.run.take() {
            None => return,
            Some(Run { count: 1, .. }) => out(Offload::default().octets(), &self.packet),
            Some(Run { shape: Shape { ip_len, head_len, payload }, .. }) => {
                set_len(&mut self.packet);
                // What the field has when the rest is still to be added.
                let sum = !pseudo(&self.packet, ip_len).finish();
                self.packet[ip_len + TCP_CHECKSUM..ip_len + TCP_CHECKSUM + 2].copy_from_slice(&sum.to_ne_bytes());
                out(Offload::tcp(ip_len, head_len, payload).octets(), &self.packet);
            }
        }
        self.packet.clear();
    }
}

impl Run {
    fn of(shape: Shape, packet: &[u8]) -> Self {
        let next = sequence(packet, shape).wrapping_add(shape.payload as u32);
        Self { shape, count: 1, next, ended: has_psh(packet, shape) }
    }

    /// With this segment, too, if it continues what `waiting` has: the same headers but for what counts on.
    fn with(self, shape: Shape, waiting: &[u8], packet: &[u8]) -> Option<Self> {
        let Shape { ip_len, head_len, payload } = self.shape;
        let fits = waiting.len() + shape.payload <= LEN_MAX && shape.payload <= payload;
        let same = |range: std::ops::Range<usize>| waiting[range.clone()] == packet[range];
        let continues = !self.ended
            && fits
            && (shape.ip_len, shape.head_len) == (ip_len, head_len)
            && sequence(packet, shape) == self.next
            && same_ip(waiting, packet, self.count)
            // Ports; acknowledgement, and how long the header is; window; urgent pointer and options.
            && same(ip_len..ip_len + 4)
            && same(ip_len + 8..ip_len + 13)
            && same(ip_len + 14..ip_len + 16)
            && same(ip_len + 18..head_len);
        continues.then(|| Self {
            shape: self.shape,
            count: self.count + 1,
            next: self.next.wrapping_add(shape.payload as u32),
            ended: shape.payload < payload || has_psh(packet, shape),
        })
    }
}

impl Shape {
    /// Of a segment that may be one of several: nothing in its headers is its own business alone, and its checksums are
    /// right, because afterwards nobody can tell.
    fn of(packet: &[u8]) -> Option<Self> {
        let (ip_len, len, protocol) = match packet.first()? {
            0x45 if packet.len() >= IPV4_LEN => {
                // Don't fragment, at most.
                let whole = packet[6] & !0x40 == 0 && packet[7] == 0;
                let right = Sum::ZERO.octets(&packet[..IPV4_LEN]).finish() == 0;
                let len = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
                (IPV4_LEN, if whole && right { len } else { 0 }, packet[9])
            }
            first if first >> 4 == 6 && packet.len() >= IPV6_LEN => {
                (IPV6_LEN, IPV6_LEN + usize::from(u16::from_be_bytes([packet[4], packet[5]])), packet[6])
            }
            _ => return None,
        };
        let head_len = ip_len + usize::from(packet.get(ip_len + 12)? >> 4) * 4;
        let plain = protocol == 6 && len == packet.len() && head_len >= ip_len + 20 && head_len < len;
        // Only an acknowledgement; the bits before the flags are reserved.
        let plain = plain && packet[ip_len + 12] & 0xf == 0 && packet[ip_len + 13] & !PSH == ACK;
        (plain && pseudo(packet, ip_len).octets(&packet[ip_len..]).finish() == 0).then(|| Self {
            ip_len,
            head_len,
            payload: len - head_len,
        })
    }
}

fn sequence(packet: &[u8], Shape { ip_len, .. }: Shape) -> u32 {
    let at = ip_len + 4;
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

fn has_psh(packet: &[u8], Shape { ip_len, .. }: Shape) -> bool {
    packet[ip_len + 13] & PSH != 0
}

/// Whether the IP header of `b` is what that of `a` becomes, so many segments later.
fn same_ip(a: &[u8], b: &[u8], later: usize) -> bool {
    if is_ipv4(a) {
        let id = |packet: &[u8]| u16::from_be_bytes([packet[4], packet[5]]);
        // Version and service; don't fragment, time to live, protocol; addresses.
        let same = a[..2] == b[..2] && a[6..10] == b[6..10] && a[12..IPV4_LEN] == b[12..IPV4_LEN];
        same && id(b) == id(a).wrapping_add(later as u16)
    } else {
        // Version, class and flow label; protocol, hops, addresses.
        a[..4] == b[..4] && a[6..IPV6_LEN] == b[6..IPV6_LEN]
    }
}
