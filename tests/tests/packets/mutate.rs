//! Random changes, the same for the same seed.

use crate::world::{A, ASIDE4, B, C, D, DNS, HOST4, OUTSIDE4, OUTSIDE6, REMOTE, REPLICAS, UPLINK, VIP4, VIP6, node};

/// Xorshift (Marsaglia, 2003).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound.max(1)
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// Octets that mean something: lengths, types, flags, protocol numbers.
const OCTETS: [u8; 24] = [0, 1, 2, 4, 5, 6, 8, 11, 17, 20, 40, 43, 44, 51, 53, 58, 60, 63, 64, 128, 129, 135, 192, 255];

/// Changes a packet in one to four places.
pub(crate) fn mutate(random: &mut Random, packet: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let at = random.below(packet.len());
        match random.below(10) {
            0 => packet[at] ^= 1 << random.below(8),
            1 | 2 => packet[at] = random.pick(&OCTETS),
            3 => packet[at] = random.next() as u8,
            4 => address(random, packet),
            5 => packet.truncate(at.max(14)),
            6 => packet.extend((0..=random.below(40)).map(|i| i as u8)),
            7 => {
                packet.insert(at, 0);
            }
            8 if packet.len() > 34 => {
                // The identification, flags and offset, or the first words of the transport header.
                let at = 18 + random.below(16);
                packet[at] = random.pick(&OCTETS);
            }
            _ if packet.len() > 42 => {
                let at = 34 + random.below(8);
                packet[at] = random.pick(&OCTETS);
            }
            _ => {}
        }
    }
    // Newer kernels run no test on a packet that is shorter than the header its Ethernet type announces.
    let least = match packet.get(12..14) {
        Some([8, 0]) => 34,
        Some([0x86, 0xdd]) => 54,
        _ => 14,
    };
    packet.resize(packet.len().max(least), 0);
}

/// Writes an address that means something over one of the packet's.
fn address(random: &mut Random, packet: &mut [u8]) {
    let four = [A.v4(), REMOTE.v4(), B.v4(), C.v4(), D.v4(), DNS, VIP4, OUTSIDE4, ASIDE4, HOST4];
    let six = [A.v6(), REMOTE.v6(), B.v6(), C.v6(), D.v6(), VIP6, OUTSIDE6, A.v4().to_ipv6_mapped()];
    let (at, octets) = match packet.get(12..14) {
        Some([8, 0]) => (random.pick(&[26, 30]), random.pick(&four).octets().to_vec()),
        _ => (random.pick(&[22, 38]), random.pick(&six).octets().to_vec()),
    };
    if let Some(place) = packet.get_mut(at..at + octets.len()) {
        place.copy_from_slice(&octets);
    }
}

/// Changes what the kernel says about a packet.
pub(crate) fn surroundings(random: &mut Random, about: &mut dataplane_ebpf::decide::Frame) {
    match random.below(12) {
        0 => about.ifindex = random.pick(&REPLICAS).ifindex(),
        1 => about.ingress_ifindex = random.pick(&[0, UPLINK, A.ifindex()]),
        2 => about.mark = random.pick(&[0, node().host_mark, node().pass_mark, u32::MAX, 1]),
        3 => about.gso = random.pick(&[0, 100, 1_380, 1_448, 0xffff]),
        _ => {}
    }
}
