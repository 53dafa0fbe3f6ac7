//! Messages to one peer that are sent together.

/// As many as one call may send (`UDP_MAX_SEGMENTS` of Linux 6.1).
const COUNT_MAX: usize = 64;
/// Their octets at most: less than one UDP datagram has.
const LEN_MAX: usize = 65_000;
/// The longest message: a packet of 64 KiB, and what the protocol puts around it.
const MESSAGE_MAX: usize = 65_535 + 32;

/// Messages one after another.
#[derive(Debug)]
pub(super) struct Burst {
    octets: Vec<u8>,
    used: usize,
    lens: Vec<u16>,
}

impl Default for Burst {
    fn default() -> Self {
        Self { octets: vec![0; LEN_MAX + MESSAGE_MAX], used: 0, lens: Vec::with_capacity(COUNT_MAX) }
    }
}

impl Burst {
    /// Where the next message is to be written.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.octets[self.used..]
    }

    /// A message of that many octets was written there. One that is longer than any datagram cannot be sent.
    pub(super) fn took(&mut self, len: usize) {
        if let Ok(short) = u16::try_from(len) {
            self.used += len;
            self.lens.push(short);
        }
    }

    /// Whether it is to be sent before there is room for any other.
    pub(super) fn is_full(&self) -> bool {
        self.used > LEN_MAX || self.lens.len() == COUNT_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.lens.clear();
    }

    /// Gives the messages by runs that may be sent by one call: each is as long as the first but the last, which may be
    /// shorter.
    pub(super) fn runs(&self, mut send: impl FnMut(&[u8], u16)) {
        let (mut begin, mut lens) = (0, &self.lens[..]);
        while let Some((&first, rest)) = lens.split_first() {
            let mut end = begin + usize::from(first);
            let mut count = 1;
            for &len in rest {
                if len > first || end - begin + usize::from(len) > LEN_MAX {
                    break;
                }
                (end, count) = (end + usize::from(len), count + 1);
                if len < first {
                    break;
                }
            }
            send(&self.octets[begin..end], first);
            (begin, lens) = (end, &lens[count..]);
        }
    }
}
