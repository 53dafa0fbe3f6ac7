//! Sums and fields of packets, by code that shares nothing with the programs.

use anyhow::{Context as _, Result};

/// The sum of RFC 1071, not yet inverted.
pub(crate) fn sum(octets: &[u8]) -> u32 {
    octets.chunks(2).fold(0, |sum, pair| {
        let sum = sum + u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        (sum & 0xffff) + (sum >> 16)
    })
}

/// Whether the checksum in these octets is right, with what a pseudo-header adds.
pub(crate) fn verifies(octets: &[u8], pseudo: u32) -> bool {
    let total = sum(octets) + pseudo;
    (total & 0xffff) + (total >> 16) == 0xffff
}

/// The 16 bits at `at`, which lie there in network order.
pub(crate) fn half(octets: &[u8], at: usize) -> Result<u16> {
    let octets = octets.get(at..at + 2).with_context(|| format!("octets {at} and {} are missing", at + 1))?;
    Ok(u16::from_be_bytes(octets.try_into()?))
}

/// Whether two parts of a packet have changed places in another.
pub(crate) fn swapped(a: &[u8], b: &[u8], first: std::ops::Range<usize>, second: std::ops::Range<usize>) -> bool {
    a[first.clone()] == b[second.clone()] && a[second] == b[first]
}
