//! Many entries of a map at once, or entries whose types are known only when it runs: other versions' maps.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use dataplane_ebpf::abi::{Pod, changes};

use super::{ElemAttr, bpf, cmd};

#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Entries asked for at once: enough to make system calls cheap, little enough to keep per-CPU buffers small.
const BATCH: usize = 1024;

/// Reads a whole map, bucket by bucket: complete for what does not change meanwhile, and always finite
/// (`BPF_MAP_GET_NEXT_KEY` starts again when the key it stands on goes away).
///
/// # Safety
/// The map's keys are `K`; `value_words` is the size of its value, or of the values of all CPUs, in u64.
pub(in super::super) unsafe fn entries<K: Pod>(
    map: BorrowedFd<'_>,
    value_words: usize,
    mut each: impl FnMut(K, &[u64]),
) -> io::Result<()> {
    // SAFETY: the caller's promise.
    unsafe { octets(map, size_of::<K>(), value_words, |key, value| each_of(key, value, &mut each)) }
}

fn each_of<K: Pod>(key: &[u8], value: &[u64], each: &mut impl FnMut(K, &[u64])) {
    if let Some(key) = changes::read(key) {
        each(key, value);
    }
}

/// As [`entries`], with keys of `key_size` octets as they are.
///
/// # Safety
/// `key_size` is the size of the map's keys; `value_words` as for [`entries`].
pub(in super::super) unsafe fn octets(
    map: BorrowedFd<'_>,
    key_size: usize,
    value_words: usize,
    mut each: impl FnMut(&[u8], &[u64]),
) -> io::Result<()> {
    let mut size = BATCH;
    // The kernel's position: a bucket number for hashes, a key for tries.
    let mut position = vec![0_u8; key_size.max(8)];
    let mut next = position.clone();
    let mut started = false;
    loop {
        let mut keys = vec![0_u8; size * key_size];
        let mut values = vec![0_u64; size * value_words];
        let mut attr = BatchAttr {
            in_batch: if started { position.as_ptr() as u64 } else { 0 },
            out_batch: next.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: size as u32,
            map_fd: map.as_raw_fd() as u32,
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: all buffers hold `size` elements or, the positions, a key; the kernel writes no more than `count`.
        let result = unsafe { bpf(cmd::MAP_LOOKUP_BATCH, &mut attr) };
        let last = match &result {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            // A bucket has more elements than were asked for.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                size *= 2;
                continue;
            }
            Err(_) => return result.map(drop),
        };
        let count = attr.count as usize;
        for (key, value) in keys.chunks_exact(key_size).zip(values.chunks_exact(value_words)).take(count) {
            each(key, value);
        }
        if last {
            return Ok(());
        }
        position.copy_from_slice(&next);
        started = true;
    }
}

/// Writes one entry as it is, with these flags (`BPF_NOEXIST` …); whether the flags allowed it.
///
/// # Safety
/// Key and value are as long as the map's, the value that of all CPUs if it has one for each.
pub(in super::super) unsafe fn put_octets(
    map: BorrowedFd<'_>,
    key: &[u8],
    value: &[u64],
    flags: u64,
) -> io::Result<bool> {
    let (key, value) = (key.as_ptr() as u64, value.as_ptr() as u64);
    let mut attr = ElemAttr { map_fd: map.as_raw_fd() as u32, pad: 0, key, value, flags };
    // SAFETY: key and value are as long as the map's, as the caller promises.
    match unsafe { bpf(cmd::MAP_UPDATE_ELEM, &mut attr) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes many entries, one after the other, whether the keys are there or not. After an error the first ones may
/// have been written.
///
/// # Safety
/// The map's keys are `K`, its values `V`, one each.
pub(in super::super) unsafe fn update_all<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> io::Result<()> {
    let mut attr = BatchAttr {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: keys.len().min(values.len()) as u32,
        map_fd: map.as_raw_fd() as u32,
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: both buffers hold `count` elements, which are as long as the map's, as the caller promises.
    unsafe { bpf(cmd::MAP_UPDATE_BATCH, &mut attr) }.map(drop)
}
