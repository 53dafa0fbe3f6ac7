//! The question.

use super::{ANSWER_MAX, HEADER_LEN, Message, OPT_MAX, Scratch, WIRE_NAME_MAX, rr};
use crate::{
    abi::{Addr, NAME_MAX, NodeConfig, Reason},
    packet::Bytes,
};

/// Identification, flags and four counts, in network order.
type Header = [u16; 6];

/// Longest question section: name, type, class.
const QUESTION_MAX: u32 = WIRE_NAME_MAX + 4;
/// As many labels as fit in a name, of one octet each.
const LABELS_MAX: u32 = WIRE_NAME_MAX / 2;
/// Longest label; a greater length octet is a compression pointer or reserved.
const LABEL_MAX: u8 = 63;

/// Longest label in front of a host's name that is an attribute of it: an underscore and what RFC 6335 section 5.1 lets
/// a service be called.
const ATTRIBUTE_MAX: u8 = 16;
/// As many of them as RFC 2782 has: service and protocol.
const ATTRIBUTES_MAX: u32 = 2;
/// Longest name that an SRV record has.
pub(super) const SRV_NAME_MAX: usize = ATTRIBUTES_MAX as usize * (1 + ATTRIBUTE_MAX as usize) + NAME_MAX;

/// Flags that a question must not have: QR, opcode, TC.
const NO_QUESTION: u16 = 0xfa00;

/// A well-formed question.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Parsed {
    /// Type, host order.
    pub(super) kind: u16,
    /// Class, host order.
    pub(super) class: u16,
    /// Flags of the header, host order.
    pub(super) flags: u16,
    /// Additional records that the header announces.
    additional: u16,
    /// Octets of the name.
    pub(super) name_len: u32,
    /// How many labels it has, the root's not counted.
    labels: u32,
    /// How many of them, the first ones, say something of the host that follows (`_http._tcp.web.internal`): at most
    /// [`ATTRIBUTES_MAX`].
    pub(super) attributes: u32,
    /// Offset in the message of the host's name, after these.
    pub(super) host: u32,
    /// Offset in the message of the last label but the root's.
    pub(super) last: u32,
    /// Offset in the message of the octet after the question.
    pub(super) end: u32,
    /// Octets of the OPT record that follows, if there is one.
    pub(super) opt_len: u32,
}

impl Parsed {
    /// Offset in the message of the root's label.
    #[inline(always)]
    pub(super) const fn root(&self) -> u32 {
        HEADER_LEN + self.name_len - 1
    }

    /// Octets of the host's name.
    #[inline(always)]
    pub(super) const fn host_len(&self) -> u32 {
        HEADER_LEN + self.name_len - self.host
    }

    /// Whether the name is one that an SRV record has: the host's, or with service and protocol in front.
    #[inline(always)]
    pub(super) const fn may_be_srv(&self) -> bool {
        self.attributes == 0 || self.attributes == ATTRIBUTES_MAX
    }
}

#[inline(always)]
fn octet(message: &Message, at: u32) -> u8 {
    message[at as usize & (2 * ANSWER_MAX - 1)]
}

#[inline(always)]
fn word(message: &Message, at: u32) -> u16 {
    u16::from_be_bytes([octet(message, at), octet(message, at + 1)])
}

/// Copies header and question into the scratch memory and finds their bounds.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn question(bytes: &impl Bytes, at: u32, len: u32, scratch: &mut Scratch) -> Result<(), Reason> {
    let header: Header = bytes.load(at).ok_or(Reason::BadDns)?;
    let [_, flags, questions, answers, authorities, additional] = header.map(u16::from_be);
    if flags & NO_QUESTION != 0 || questions != 1 || answers != 0 || authorities != 0 || len <= HEADER_LEN {
        return Err(Reason::BadDns);
    }
    let message = &mut scratch.message;
    let taken = len.min(HEADER_LEN + QUESTION_MAX);
    bytes.copy(at, taken, message, 0).ok_or(Reason::BadDns)?;

    let (mut labels, mut last, mut here) = (0, HEADER_LEN, HEADER_LEN);
    loop {
        // Also bounds the loop where the verifier cannot see that `here` grows.
        if here >= taken || labels > LABELS_MAX {
            return Err(Reason::BadDns);
        }
        let length = octet(message, here);
        if length == 0 {
            break;
        }
        if length > LABEL_MAX {
            return Err(Reason::BadDns);
        }
        last = here;
        labels += 1;
        here += 1 + u32::from(length);
    }
    let (name_len, end) = (here + 1 - HEADER_LEN, here + 5);
    if name_len > WIRE_NAME_MAX || end > taken {
        return Err(Reason::BadDns);
    }
    let (kind, class) = (word(message, here + 1), word(message, here + 3));
    scratch.question = Parsed { kind, class, flags, additional, name_len, labels, last, end, ..Parsed::default() };
    Ok(())
}

/// Measures the OPT record that follows the question, with nothing else after it.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn additional(bytes: &impl Bytes, at: u32, len: u32, scratch: &mut Scratch) -> Result<(), Reason> {
    let question = &mut scratch.question;
    let rest = len.saturating_sub(question.end);
    if question.additional == 0 && rest == 0 {
        return Ok(());
    }
    // RFC 6891 section 6.1.2: the root's name, type, payload size, extended code, version, flags, length.
    let opt: [u8; 11] = bytes.load(at + question.end).ok_or(Reason::BadDns)?;
    let [name, kind @ .., _, _, code, version, _, _, high, low] = opt;
    let length = u32::from(u16::from_be_bytes([high, low]));
    let well_formed = name == 0 && u16::from_be_bytes(kind) == rr::OPT && code == 0 && version == 0;
    if question.additional != 1 || !well_formed || rest != 11 + length || rest > OPT_MAX {
        return Err(Reason::BadDns);
    }
    question.opt_len = rest;
    Ok(())
}

/// Whose business a name is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Skep's alone: below `internal`, or a single label, which must never leak to the outside.
    Name,
    /// The reverse name of an address of the pools, which is in the scratch memory.
    Address,
    /// The rest of the world's.
    Outside,
}

#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn kind(scratch: &mut Scratch, node: &NodeConfig) -> Kind {
    let Scratch { question, message, address, .. } = scratch;
    if question.labels == 1 || below_internal(question, message) {
        return Kind::Name;
    }
    let reverse = match question.labels {
        6 => reverse4(message, address),
        34 => reverse6(message, address),
        _ => false,
    };
    if reverse && (node.is_container(address) || node.is_vip(address)) { Kind::Address } else { Kind::Outside }
}

/// Whether the last label is `internal`.
#[inline(always)]
pub(super) fn below_internal(question: &Parsed, message: &Message) -> bool {
    question.labels > 0 && is_at(message, question.last, b"\x08internal\0")
}

/// Whether these octets of a name, in lower case, stand at `at`.
#[inline(always)]
fn is_at<const N: usize>(message: &Message, at: u32, expected: &[u8; N]) -> bool {
    let mut i = 0;
    let mut difference = 0;
    while i < N {
        difference |= octet(message, at + i as u32).to_ascii_lowercase() ^ expected[i];
        i += 1;
    }
    difference == 0
}

/// Reads the address of `4.3.2.1.in-addr.arpa` (RFC 1035 section 3.5), in canonical decimals.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn reverse4(message: &Message, address: &mut Addr) -> bool {
    let mut at = HEADER_LEN;
    let mut value = 0_u32;
    let mut i = 0;
    while i < 4 {
        let Some(octet) = decimal(message, at) else { return false };
        value = value >> 8 | octet << 24;
        at += 1 + u32::from(self::octet(message, at));
        i += 1;
    }
    *address = Addr::from_v4_word(value.to_be());
    is_at(message, at, b"\x07in-addr\x04arpa\0")
}

/// The number below 256 that is the label at `at`.
#[inline(always)]
fn decimal(message: &Message, at: u32) -> Option<u32> {
    let len = octet(message, at);
    let digit = |i| u32::from(octet(message, at + i).wrapping_sub(b'0'));
    let (a, b, c) = (digit(1), digit(2), digit(3));
    match len {
        1 if a <= 9 => Some(a),
        2 if a <= 9 && b <= 9 && a > 0 => Some(a * 10 + b),
        3 if a <= 2 && b <= 9 && c <= 9 && a > 0 => Some(a * 100 + b * 10 + c).filter(|value| *value <= 255),
        _ => None,
    }
}

/// Reads the address of `….ip6.arpa` (RFC 3596 section 2.5): 32 nibbles, the last one first.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn reverse6(message: &Message, address: &mut Addr) -> bool {
    let mut i = 0;
    while i < 4 {
        let mut word = 0_u32;
        let mut j = 0;
        while j < 8 {
            let at = HEADER_LEN + 2 * (8 * i + j);
            let nibble = match octet(message, at + 1).to_ascii_lowercase() {
                digit @ b'0'..=b'9' => digit - b'0',
                digit @ b'a'..=b'f' => digit - b'a' + 10,
                _ => return false,
            };
            if octet(message, at) != 1 {
                return false;
            }
            word = word >> 4 | u32::from(nibble) << 28;
            j += 1;
        }
        address.0[3 - i as usize] = word.to_be();
        i += 1;
    }
    is_at(message, HEADER_LEN + 64, b"\x03ip6\x04arpa\0")
}

/// Finds the host's name, after what is said of it. Apart from [`question`], whose loop has all of the verifier's patience
/// that there is.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn host(scratch: &mut Scratch) {
    let Scratch { question, message, .. } = scratch;
    question.host = HEADER_LEN;
    question.attributes = 0;
    while question.attributes < ATTRIBUTES_MAX {
        let length = octet(message, question.host);
        if length == 0 || length > ATTRIBUTE_MAX || octet(message, question.host + 1) != b'_' {
            break;
        }
        question.host += 1 + u32::from(length);
        question.attributes += 1;
    }
}

/// Makes the key of the host's name: as services are called ([`lower`]), zeros after it. Length octets are below `A` and
/// so stay as they are, which lets it go by words.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn lower_name(scratch: &mut Scratch, env: u32) {
    let Scratch { question, message, name: key, .. } = scratch;
    key.env = env;
    let mut i = 0;
    while i < NAME_MAX {
        // Masked so that three octets more are in the message, too; a name ends long before.
        let at = (question.host as usize + i) & (ANSWER_MAX - 1);
        let left = question.host_len().saturating_sub(i as u32);
        let word = u32::from_le_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]]);
        let kept = if left >= 4 { u32::MAX } else { (1 << (left * 8)) - 1 };
        let [a, b, c, d] = (lower(word) & kept).to_le_bytes();
        (key.name[i], key.name[i + 1], key.name[i + 2], key.name[i + 3]) = (a, b, c, d);
        i += 4;
    }
}

/// Four octets at once to ASCII lower case, and underscores to hyphens: as services are called here, whose names in
/// Compose files may have either. No length octet is as large as an underscore.
#[inline(always)]
const fn lower(word: u32) -> u32 {
    const HIGH: u32 = 0x8080_8080;
    const UNDERSCORES: u32 = 0x5f5f_5f5f;
    /// From an underscore to a hyphen.
    const HYPHEN: u32 = 0x5f ^ 0x2d;
    // The high bit of an octet of `low + (0x80 − x)` says whether its lower seven bits are at least x.
    let low = word & !HIGH;
    let from_a = low + 0x3f3f_3f3f;
    let past_z = low + 0x2525_2525;
    let upper = from_a & !past_z & !word & HIGH;
    let other = word ^ UNDERSCORES;
    let underscore = !(((other & !HIGH) + !HIGH) | other) & HIGH;
    (word | upper >> 2) ^ ((underscore >> 7) * HYPHEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_octets_are_lowered_as_one_by_one() {
        for octet in 0..=u8::MAX {
            let word = u32::from_le_bytes([octet, b'Z', octet, 0]);
            let one = if octet == b'_' { b'-' } else { octet.to_ascii_lowercase() };
            let expected = [one, b'z', one, 0];
            assert_eq!(lower(word).to_le_bytes(), expected, "octet {octet}");
        }
    }
}
