//! How the allocator keeps memory: what a large change took goes back, and a long life does not show.

/// Has glibc keep one heap, and return its free end. By default each of the threads that come and go (file system
/// calls have some) gets a heap of its own, up to eight for every CPU, and each heap keeps the most that it ever held:
/// under faults at random, half of them changes of a megabyte, a daemon grew from 11 to 32 MiB in three minutes, and
/// so from 7 to 14, of which 4 are the store's history. Two worker threads do not compete for a heap's lock.
///
/// Called before there are threads.
#[cfg(target_env = "gnu")]
pub fn keep_one_heap() {
    /// glibc's own initial value in octets; setting it keeps glibc from raising it to the largest block ever freed.
    const TRIM_THRESHOLD: libc::c_int = 128 << 10;
    for (parameter, value) in [(libc::M_ARENA_MAX, 1), (libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD)] {
        // SAFETY: takes two numbers; that either is refused changes nothing.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Other C libraries have one heap.
#[cfg(not(target_env = "gnu"))]
pub fn keep_one_heap() {}

/// Held while something large is done: at its end, free memory goes back to the kernel from within the heap, too. As
/// long as anything small lies behind it, glibc keeps it otherwise: after one change of a megabyte, 8 MiB.
pub struct Large;

impl Drop for Large {
    fn drop(&mut self) {
        #[cfg(target_env = "gnu")]
        // SAFETY: takes a number, and locks the heap itself.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
