//! The Internet checksum (RFC 1071).

use crate::abi::Addr;

/// A running sum of 16-bit words, folded when it is read. Words are taken as they lie in memory: the sum of
/// swapped words is the swapped sum, so that it is right on any machine when written back the same way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sum(u64);

impl Sum {
    /// Of nothing.
    pub const ZERO: Self = Self(0);

    /// Adds two words at once.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, word: u32) -> Self {
        // As u32 words the sum is right modulo 2^16 − 1 as well, which folding takes it by in the end.
        Self(self.0 + word as u64)
    }

    /// Adds one word as it lies in memory.
    #[inline(always)]
    #[must_use]
    pub const fn half(self, half: u16) -> Self {
        Self(self.0 + half as u64)
    }

    /// Adds the first `len` octets of `message`, after which zeros follow up to a multiple of four. `N` is a power of
    /// two, and `len` at most its half.
    #[inline(always)]
    #[must_use]
    pub const fn message<const N: usize>(self, message: &[u8; N], len: u32) -> Self {
        let mut sum = self;
        let mut at = 0;
        while at < N / 2 {
            if at as u32 >= len {
                break;
            }
            let word = u32::from_ne_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]]);
            sum = sum.word(word);
            at += 4;
        }
        sum
    }

    /// Adds octets, after which zeros follow up to a multiple of four.
    #[must_use]
    pub fn octets(self, octets: &[u8]) -> Self {
        let (words, rest) = octets.as_chunks::<4>();
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
        Self(self.0 + sum).word(u32::from_ne_bytes(last))
    }

    /// Adds the pseudo-header of a transport protocol over IPv4 (RFC 768), lengths in host order.
    #[inline(always)]
    #[must_use]
    pub const fn pseudo_v4(self, source: Addr, destination: Addr, protocol: u8, len: u16) -> Self {
        self.word(source.v4_word()).word(destination.v4_word()).half((protocol as u16).to_be()).half(len.to_be())
    }

    /// Adds the pseudo-header of a transport protocol over IPv6 (RFC 8200 section 8.1), lengths in host order.
    #[inline(always)]
    #[must_use]
    pub const fn pseudo_v6(self, source: Addr, destination: Addr, protocol: u8, len: u16) -> Self {
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (source.0, destination.0);
        let sum = self.word(s0).word(s1).word(s2).word(s3).word(d0).word(d1).word(d2).word(d3);
        sum.half((protocol as u16).to_be()).half(len.to_be())
    }

    /// The checksum to write into the packet, as it lies in memory.
    #[inline(always)]
    pub const fn finish(self) -> u16 {
        // Four folds take any 64 bits to 16.
        let sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        !(sum as u16)
    }
}

/// The checksum after one 16-bit word changed (RFC 1624, equation 3). All as they lie in memory.
#[inline(always)]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::ZERO.half(!checksum).half(!old).half(new).finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 section 1, word by word.
    fn reference(octets: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in octets.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn the_sum_of_words_is_the_sum_of_octets(words in proptest::collection::vec(any::<u32>(), 0..200)) {
            let octets: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
            let sum = words.iter().fold(Sum::ZERO, |sum, w| sum.word(*w));
            prop_assert_eq!(u16::from_be(sum.finish()), reference(&octets));
        }

        #[test]
        fn an_updated_checksum_verifies(mut octets in proptest::collection::vec(any::<u8>(), 4..80), new: [u8; 2]) {
            octets.truncate(octets.len() / 2 * 2);
            octets[2..4].fill(0);
            let checksum = reference(&octets).to_be();
            let old = [octets[0], octets[1]];
            octets[..2].copy_from_slice(&new);
            let updated = update(checksum, u16::from_ne_bytes(old), u16::from_ne_bytes(new));
            octets[2..4].copy_from_slice(&updated.to_ne_bytes());
            prop_assert_eq!(reference(&octets), 0);
        }
    }
}
