//! What the versions of the ABI differ in, map by map, and how a value of the version before becomes one of the next.
//!
//! A map that no change names has the same layout in both versions: skepd pins the very same map under both, and
//! nothing is copied. The values of all others are converted. Keys have never changed.
//!
//! Version 2 brought a map, EGRESS_LISTS, flags that say a list of it, one for affinity, and a port where a name had
//! zeros; no value is laid out otherwise.
//!
//! Who raises [`super::ABI_VERSION`] adds to [`CHANGES`], and keeps the layout before as far as it needs it.

use super::{ABI_VERSION, Pod, map};

/// The values of a map are laid out differently since a version.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Name of the map.
    pub map: &'static str,
    /// The version that brought it.
    pub version: u32,
    /// Octets of a value since then.
    pub size: usize,
    /// Makes of key and value of the version before a value of this one, of `size` octets; `false`: of this entry
    /// nothing can be made (it was torn, or is of no use any more).
    pub convert: fn(key: &[u8], old: &[u8], new: &mut [u8]) -> bool,
}

/// Every change there has been, the oldest first. SOCKETS never changes: nobody can list what sockets store.
pub const CHANGES: &[Change] = if cfg!(feature = "next-abi") { NEXT } else { &[] };

#[cfg(feature = "next-abi")]
use super::next::CHANGES as NEXT;
#[cfg(not(feature = "next-abi"))]
const NEXT: &[Change] = &[];

/// The version since which a map is laid out as in this build.
pub fn since(map: &str) -> u32 {
    CHANGES.iter().filter(|change| change.map == map).map(|change| change.version).max().unwrap_or(1)
}

/// The changes that lead from the layout of `version`, not newer than this build's, to this build's.
pub fn after(version: u32, map: &str) -> impl Iterator<Item = &'static Change> + use<'_> {
    CHANGES.iter().filter(move |change| change.map == map && change.version > version)
}

/// Octets as a value; `None` when there are not exactly as many as it has.
pub fn read<T: Pod>(octets: &[u8]) -> Option<T> {
    // SAFETY: as many octets as `T` has, whose every bit pattern is valid.
    (octets.len() == size_of::<T>()).then(|| unsafe { octets.as_ptr().cast::<T>().read_unaligned() })
}

/// Writes a value as octets; `false` when there is not exactly room for it.
pub fn write<T: Pod>(value: T, octets: &mut [u8]) -> bool {
    if octets.len() != size_of::<T>() {
        return false;
    }
    // SAFETY: as many octets as `T` has.
    unsafe { octets.as_mut_ptr().cast::<T>().write_unaligned(value) };
    true
}

const _: () = {
    let mut i = 0;
    while i < CHANGES.len() {
        assert!(CHANGES[i].version > 1);
        assert!(CHANGES[i].version <= ABI_VERSION);
        assert!(!same(CHANGES[i].map, map::SOCKETS));
        i += 1;
    }
};

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}
