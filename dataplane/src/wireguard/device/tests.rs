//! Cutting apart and putting together lose nothing and change nothing.

use dataplane_ebpf::checksum::Sum;
use proptest::prelude::*;

use super::burst::Burst;
use super::merge::Merge;
use super::offload::{IPV4_LEN, IPV6_LEN, OFFLOAD_LEN, Offload, TCP_CHECKSUM, pseudo, set_len};
use super::split::split;

/// One direction of a connection.
#[derive(Clone, Debug)]
struct Stream {
    v6: bool,
    options: Vec<u8>,
    sequence: u32,
    flags: u8,
}

fn streams() -> impl Strategy<Value = Stream> {
    let flags = prop_oneof![4 => Just(0x10_u8), 3 => Just(0x18), 1 => any::<u8>()];
    let options = prop_oneof![Just(0_usize), Just(12), Just(40)];
    (any::<bool>(), options, any::<u32>(), flags).prop_map(|(v6, options, sequence, flags)| {
        // No operation.
        Stream { v6, options: vec![1; options], sequence, flags }
    })
}

impl Stream {
    fn ip_len(&self) -> usize {
        if self.v6 { IPV6_LEN } else { IPV4_LEN }
    }

    fn head_len(&self) -> usize {
        self.ip_len() + 20 + self.options.len()
    }

    /// A packet of it whose checksum field has the sum of the pseudo-header.
    fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut packet = match self.v6 {
            true => [&[0x60, 1, 2, 3, 0, 0, 6, 64], &[0xfd; 16][..], &[0xfe; 16]].concat(),
            false => [&[0x45, 0, 0, 0, 0xff, 0xfe, 0x40, 0, 64, 6, 0, 0], &[10, 0, 0, 1][..], &[10, 0, 0, 2]].concat(),
        };
        packet.extend([0x12, 0x34, 0, 80]);
        packet.extend(self.sequence.to_be_bytes());
        packet.extend([1, 2, 3, 4, (((20 + self.options.len()) / 4) << 4) as u8, self.flags, 8, 0, 0, 0, 0, 0]);
        packet.extend(&self.options);
        packet.extend(payload);
        set_len(&mut packet);
        let sum = !pseudo(&packet, self.ip_len()).finish();
        let at = self.ip_len() + TCP_CHECKSUM;
        packet[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
        packet
    }

    fn segments(&self, payload: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut packet = self.packet(payload);
        cut(Offload::tcp(self.ip_len(), self.head_len(), step), &mut packet).expect("a sound packet")
    }
}

fn cut(offload: Offload, packet: &mut [u8]) -> Option<Vec<Vec<u8>>> {
    let mut segments = Vec::new();
    split(&offload, packet, |segment| segments.push(segment.to_vec()))?;
    Some(segments)
}

/// What the host gets of these packets.
fn merged(packets: &[Vec<u8>]) -> Vec<(Offload, Vec<u8>)> {
    let (mut merge, mut out) = (Merge::default(), Vec::new());
    let mut take = |offload: [u8; OFFLOAD_LEN], packet: &[u8]| out.push((Offload::from(offload), packet.to_vec()));
    for packet in packets {
        merge.push(packet, &mut take);
    }
    merge.flush(&mut take);
    out
}

/// What it makes of that where it needs packets again.
fn resolved(packets: Vec<(Offload, Vec<u8>)>) -> Vec<Vec<u8>> {
    packets.into_iter().flat_map(|(offload, mut packet)| cut(offload, &mut packet).expect("sound")).collect()
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

proptest! {
    #[test]
    fn every_segment_is_whole_and_right(stream in streams(), len in 0..20_000_usize, step in 1..3_000_usize) {
        let (payload, head_len) = (payload(len), stream.head_len());
        let segments = stream.segments(&payload, step);
        prop_assert_eq!(segments.len(), len.div_ceil(step).max(1));
        let all: Vec<u8> = segments.iter().flat_map(|segment| segment[head_len..].to_vec()).collect();
        prop_assert_eq!(all, payload);
        for (i, segment) in segments.iter().enumerate() {
            let ip_len = stream.ip_len();
            prop_assert_eq!(pseudo(segment, ip_len).octets(&segment[ip_len..]).finish(), 0);
            let sequence = stream.sequence.wrapping_add((i * step) as u32);
            prop_assert_eq!(&segment[ip_len + 4..ip_len + 8], &sequence.to_be_bytes());
            let last = i + 1 == segments.len();
            prop_assert_eq!(segment[ip_len + 13], if last { stream.flags } else { stream.flags & !0x09 });
            if !stream.v6 {
                prop_assert_eq!(Sum::ZERO.octets(&segment[..IPV4_LEN]).finish(), 0);
                prop_assert_eq!(&segment[4..6], &0xfffe_u16.wrapping_add(i as u16).to_be_bytes());
            }
        }
    }

    #[test]
    fn what_was_cut_is_put_together_again(mut stream in streams(), len in 2..60_000_usize, step in 100..3_000_usize) {
        stream.flags = stream.flags & 0x08 | 0x10;
        let (payload, step) = (payload(len), step.min(len - 1));
        let out = merged(&stream.segments(&payload, step));
        prop_assert_eq!(out, [(Offload::tcp(stream.ip_len(), stream.head_len(), step), stream.packet(&payload))]);
    }

    /// Whatever comes: lost, repeated, altered and foreign segments are the same, in the same order, after all.
    #[test]
    fn nothing_is_lost_altered_or_overtaken(
        (one, two) in (streams(), streams()),
        len in 1..9_000_usize,
        step in 1_usize..1_500,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..4),
        moves in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..4),
    ) {
        let mut packets = one.segments(&payload(len), step);
        packets.extend(two.segments(&payload(len / 2), step));
        for (which, octet, bits) in changes {
            let which = which.index(packets.len());
            let packet = &mut packets[which];
            let at = octet.index(packet.len());
            packet[at] ^= bits;
        }
        for (from, to) in moves {
            let packet = packets[from.index(packets.len())].clone();
            let to = to.index(packets.len());
            packets.insert(to, packet);
        }
        prop_assert_eq!(resolved(merged(&packets)), packets);
    }

    /// The host's stack sends none of these; they end here, and nothing is read or written that is not the packet's.
    #[test]
    fn an_offload_without_sense_is_refused(header: [u8; OFFLOAD_LEN], mut packet in prop::collection::vec(any::<u8>(), 1..200)) {
        let _none_or_some = cut(Offload::from(header), &mut packet);
    }

    #[test]
    fn runs_are_all_messages_in_order(lens in prop::collection::vec(1_usize..1_500, 0..64)) {
        let mut burst = Burst::default();
        for (i, len) in lens.iter().enumerate() {
            burst.room()[..*len].fill(i as u8);
            burst.took(*len);
        }
        let mut messages = Vec::new();
        burst.runs(|run, len| {
            assert!(run.len() <= 65_000 && !run.is_empty());
            messages.extend(run.chunks(len.into()).map(<[u8]>::to_vec));
        });
        let expected: Vec<_> = lens.iter().enumerate().map(|(i, len)| vec![i as u8; *len]).collect();
        prop_assert_eq!(messages, expected);
    }
}

#[test]
fn a_checksum_that_was_left_is_completed() {
    let stream = Stream { v6: false, options: Vec::new(), sequence: 1, flags: 0x10 };
    let mut packet = stream.packet(b"hello");
    let mut header = Offload::tcp(IPV4_LEN, stream.head_len(), 0).octets();
    header[1] = 0;
    let segments = cut(Offload::from(header), &mut packet).expect("sound");
    assert_eq!(segments.len(), 1);
    assert_eq!(pseudo(&segments[0], IPV4_LEN).octets(&segments[0][IPV4_LEN..]).finish(), 0);
}
