/// A type that may be read as plain memory: `repr(C)`, no padding that is not a field, every bit pattern valid.
///
/// # Safety
/// The implementor's size is a multiple of 4, its alignment at least 4, and it has no implicit padding.
pub unsafe trait Pod: Copy + 'static {}

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
    /// The seal as stored.
    fn seal(&self) -> u64;
    /// A copy with that seal, and with whatever a program changes in place (and the seal does not cover) zeroed.
    fn with_seal(self, seal: u64) -> Self;

    /// A copy sealed for `key`, ready to be written to the map.
    fn sealed<K: Pod>(self, key: &K) -> Self {
        let bare = self.with_seal(0);
        self.with_seal(checksum(key, &bare))
    }

    /// Whether this value was written, whole, for `key`.
    #[inline(always)]
    fn is_sealed_for<K: Pod>(&self, key: &K) -> bool {
        checksum(key, &self.with_seal(0)) == self.seal()
    }
}

/// Multiplier of the FxHash family: one multiplication per word, enough to tell a mix of two entries from either.
const K: u64 = 0x517c_c1b7_2722_0a95;
/// Start value: an all-zero value is not validly sealed.
const START: u64 = 0x736b_6570_2d61_6269;

#[inline(always)]
fn checksum<K2: Pod, V: Pod>(key: &K2, value: &V) -> u64 {
    fold(value, fold(key, START))
}

#[inline(always)]
fn fold<T: Pod>(item: &T, mut h: u64) -> u64 {
    let words = size_of::<T>() / 4;
    let base = core::ptr::from_ref(item).cast::<u32>();
    let mut i = 0;
    while i < words {
        // SAFETY: `Pod` promises alignment of at least 4 and a size that is a multiple of 4, with no uninitialised padding.
        let word = unsafe { *base.add(i) };
        h = (h.rotate_left(5) ^ word as u64).wrapping_mul(K);
        i += 1;
    }
    h
}

/// How often a reader tries before it gives up with [`super::Reason::TornRead`].
const ATTEMPTS: u32 = 4;

/// Reads until the seal is right.
///
/// # Errors
/// [`super::Reason::TornRead`] after [`ATTEMPTS`] bad seals.
#[inline(always)]
pub fn settle<K2: Pod, V: Sealed>(key: &K2, read: impl Fn(&K2) -> Option<V>) -> Result<Option<V>, super::Reason> {
    let mut attempt = 0;
    while attempt < ATTEMPTS {
        match read(key) {
            None => return Ok(None),
            Some(value) if value.is_sealed_for(key) => return Ok(Some(value)),
            Some(_) => attempt += 1,
        }
    }
    Err(super::Reason::TornRead)
}
