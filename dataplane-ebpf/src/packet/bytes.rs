use super::Wire;

/// The octets of a frame, from its Ethernet header on.
pub trait Bytes {
    /// How many there are.
    fn len(&self) -> u32;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The header at `offset`, or `None` when the frame ends before it does.
    fn load<T: Wire>(&self, offset: u32) -> Option<T>;

    /// [`Self::load`] at an offset that is known beforehand, which a program may read where it lies.
    #[inline(always)]
    fn head<T: Wire, const OFFSET: u32>(&self) -> Option<T> {
        self.load(OFFSET)
    }

    /// Copies `len` octets from `offset` on to `to[at..]`; `None` when the frame has fewer.
    ///
    /// `N` is a power of two, `at` less than its half, and `len` from 1 to its half: bounds that a mask can show
    /// to the kernel's verifier. Out of bounds is `None` as well.
    fn copy<const N: usize>(&self, offset: u32, len: u32, to: &mut [u8; N], at: u32) -> Option<()>;
}

impl Bytes for &[u8] {
    fn len(&self) -> u32 {
        (**self).len().try_into().unwrap_or(u32::MAX)
    }

    fn load<T: Wire>(&self, offset: u32) -> Option<T> {
        let octets = self.get(offset as usize..)?.get(..size_of::<T>())?;
        // SAFETY: as many octets as `T` has, of which `Wire` promises that any value will do.
        Some(unsafe { octets.as_ptr().cast::<T>().read_unaligned() })
    }

    fn copy<const N: usize>(&self, offset: u32, len: u32, to: &mut [u8; N], at: u32) -> Option<()> {
        let (len, at) = (len as usize, at as usize);
        if len == 0 || len > N / 2 || at >= N / 2 {
            return None;
        }
        to[at..at + len].copy_from_slice(self.get(offset as usize..)?.get(..len)?);
        Some(())
    }
}
