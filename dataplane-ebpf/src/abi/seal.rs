/// A type that may be read as plain memory: `repr(C)`, no padding that is not a field, every bit pattern valid.
///
/// # Safety
/// The implementor's size is a multiple of 4, its alignment at least 4, and it has no implicit padding.
pub unsafe trait Pod: Copy + 'static {}

/// Declares that types are [`Pod`], with the size that the sum of their fields has.
macro_rules! pod {
    ($($type:ty: $size:expr),* $(,)?) => {$(
        const _: () = assert!(size_of::<$type>() == $size);
        // SAFETY: repr(C) of integers and integer arrays without implicit padding: the size asserted above is the sum of the fields.
        unsafe impl $crate::abi::Pod for $type {}
    )*};
}
pub(super) use pod;

// SAFETY: plain integers.
unsafe impl Pod for u32 {}
// SAFETY: plain integers.
unsafe impl Pod for u64 {}
// SAFETY: an array of four u32.
unsafe impl Pod for super::Addr {}

/// A value that carries a checksum over its key and itself.
///
/// A preallocated BPF hash recycles an element without waiting for its readers, so a value that is read
/// while it is replaced may be a mix of two values or another key's altogether. A reader that
/// finds a bad seal reads again ([`settle`]); so no stale or torn entry can ever mean another tenant.
pub trait Sealed: Pod + PartialEq {
    /// How many octets the seal covers, from the first on: all but itself and what a program changes in place.
    const COVERED: usize;

    /// The seal as stored.
    fn seal(&self) -> u64;
    /// A copy with that seal.
    fn with_seal(self, seal: u64) -> Self;

    /// A copy sealed for `key`, ready to be written to the map.
    #[inline(always)]
    fn sealed<K: Pod>(self, key: &K) -> Self {
        self.with_seal(checksum(key, &self))
    }

    /// Whether this value was written, whole, for `key`.
    #[inline(always)]
    fn is_sealed_for<K: Pod>(&self, key: &K) -> bool {
        checksum(key, self) == self.seal()
    }
}

/// Multiplier of the FxHash family: one multiplication per word, enough to tell a mix of two entries from either.
const MULTIPLIER: u64 = 0x517c_c1b7_2722_0a95;
/// Start value: an all-zero value is not validly sealed.
const START: u64 = 0x736b_6570_2d61_6269;
/// A multiplication waits for the one before; in four lanes, four are under way at a time.
const LANES: usize = 4;

/// A checksum in the making: word `i` of what is folded goes to lane `i % LANES`.
#[derive(Clone, Copy)]
struct Sum([u64; LANES]);

#[inline(always)]
fn checksum<K: Pod, V: Sealed>(key: &K, value: &V) -> u64 {
    Sum([START; LANES]).fold(key, size_of::<K>()).fold(value, V::COVERED).finish()
}

impl Sum {
    /// Folds the first `octets` of `item`, a multiple of 4.
    #[inline(always)]
    fn fold<T: Pod>(mut self, item: &T, octets: usize) -> Self {
        let mut i = 0;
        while i < octets.div_ceil(8) {
            let h = &mut self.0[i % LANES];
            *h = (h.rotate_left(5) ^ word(item, i, octets)).wrapping_mul(MULTIPLIER);
            i += 1;
        }
        self
    }

    /// Each lane's rotation is its own, so that what differs in two lanes does not cancel out.
    #[inline(always)]
    const fn finish(self) -> u64 {
        let [a, b, c, d] = self.0;
        a ^ b.rotate_left(17) ^ c.rotate_left(31) ^ d.rotate_left(47)
    }
}

/// Octets `8 * i..` of an item, eight of them or the last four.
#[inline(always)]
fn word<T: Pod>(item: &T, i: usize, octets: usize) -> u64 {
    let base = core::ptr::from_ref(item);
    if align_of::<T>() >= 8 && octets >= 8 * i + 8 {
        // SAFETY: aligned to 8, and within the item: `octets` is at most its size; `Pod` has no uninitialised padding.
        return unsafe { *base.cast::<u64>().add(i) };
    }
    // SAFETY: as above; `Pod` promises alignment of at least 4.
    let half = |at| unsafe { u64::from(*base.cast::<u32>().add(at)) };
    if octets >= 8 * i + 8 { half(2 * i) | half(2 * i + 1) << 32 } else { half(2 * i) }
}

/// How often a reader tries before it gives up with [`super::Reason::TornRead`].
const ATTEMPTS: u64 = 4;

/// Reads until the seal is right, or the key is absent twice.
///
/// Once is not enough: a hash replaces an element by putting the new one at the head of its chain and then taking
/// the old one out, so a reader that stands in between passes both by (437 of a million connects under constant
/// rewriting).
///
/// # Errors
/// [`super::Reason::TornRead`] after [`ATTEMPTS`] reads without a result.
#[inline(always)]
pub fn settle<K: Pod, V: Sealed>(key: &K, read: impl Fn(&K) -> Option<V>) -> Result<Option<V>, super::Reason> {
    let mut found = None;
    let settled = settled(|| {
        found = read(key);
        found.as_ref().map(|value| value.is_sealed_for(key))
    })?;
    Ok(if settled { found } else { None })
}

/// As [`settle`], for a value that is not to be handed around: `read` copies it to `into` and says whether it was
/// there, which is the result.
///
/// # Errors
/// As for [`settle`].
#[inline(always)]
pub fn settle_in_place<K: Pod, V: Sealed>(
    key: &K,
    into: &mut V,
    read: impl Fn(&K, &mut V) -> bool,
) -> Result<bool, super::Reason> {
    settled(|| read(key, into).then(|| into.is_sealed_for(key)))
}

/// Tries until an attempt says that what was there is whole, or twice that there was nothing.
#[inline(always)]
fn settled(mut attempt: impl FnMut() -> Option<bool>) -> Result<bool, super::Reason> {
    // Opaque, so that the compiler leaves the loop a loop: unrolled, the second to fourth reads, which practically
    // never happen, would fill the instruction cache. Eight octets wide, so that the verifier follows it on the stack.
    let mut left = core::hint::black_box(ATTEMPTS);
    let mut absent = false;
    while left > 0 {
        match attempt() {
            None if absent => return Ok(false),
            None => absent = true,
            Some(true) => return Ok(true),
            Some(false) => {}
        }
        left -= 1;
    }
    Err(super::Reason::TornRead)
}
