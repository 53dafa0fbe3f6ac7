//! The answer.

use super::{
    HEADER_LEN, Scratch,
    parse::{Parsed, SRV_NAME_MAX, below_internal},
    rr,
};
use crate::{
    abi::{Addr, NAME_MAX},
    packet::Bytes,
};

/// Longest answer: what every client takes, with or without EDNS (RFC 1035 section 4.2.1).
pub const ANSWER_MAX: usize = 512;

/// How long an answer may be kept, in seconds: VIPs stay, but services come and go.
pub const TTL: u32 = 5;

/// The longest question, the longest records and the longest OPT together.
const _: () = assert!(HEADER_LEN + super::WIRE_NAME_MAX + 4 + 58 + super::OPT_MAX <= ANSWER_MAX as u32);
const _: () = assert!(HEADER_LEN as usize + NAME_MAX + 4 + 12 + NAME_MAX + super::OPT_MAX as usize <= ANSWER_MAX);
const _: () =
    assert!(HEADER_LEN as usize + SRV_NAME_MAX + 4 + 12 + 6 + NAME_MAX + super::OPT_MAX as usize <= ANSWER_MAX);

/// Flags of the header (RFC 1035 section 4.1.1, RFC 4035 section 3.2.2).
mod flag {
    pub(super) const RESPONSE: u16 = 0x8000;
    pub(super) const AUTHORITATIVE: u16 = 0x0400;
    pub(super) const RECURSION_DESIRED: u16 = 0x0100;
    /// The forwarder recurses; without it `dig` warns.
    pub(super) const RECURSION_AVAILABLE: u16 = 0x0080;
    pub(super) const CHECKING_DISABLED: u16 = 0x0010;
    pub(super) const NO_SUCH_NAME: u16 = 3;
}

/// A pointer (RFC 1035 section 4.1.4) to an offset in the message.
const POINTER: u16 = 0xc000;

/// Data of the SOA record, without its last field: what RFC 6303 section 3 gives a zone that is served locally.
const SOA: [u8; 42] = *b"\x08internal\x00\x06nobody\x07invalid\x00\
    \x00\x00\x00\x01\x00\x00\x0e\x10\x00\x00\x04\xb0\x00\x09\x3a\x80";

/// An answer in the making: header and question stand in the message, records follow.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Answer {
    /// Offset in the message where the next octet goes.
    at: u32,
    flags: u16,
    answers: u16,
    authorities: u16,
    pad: u16,
}

impl Scratch {
    /// Starts an answer that has nothing but the question, which is in the message already.
    #[inline(always)]
    pub(super) fn begin(&mut self) {
        let echoed = self.question.flags & (flag::RECURSION_DESIRED | flag::CHECKING_DISABLED);
        let flags = flag::RESPONSE | flag::AUTHORITATIVE | flag::RECURSION_AVAILABLE | echoed;
        self.answer = Answer { at: self.question.end, flags, ..Answer::default() };
    }

    /// An IPv4 address, as it lies in a packet.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    pub(super) fn a(&mut self, address: u32) {
        self.record(POINTER | HEADER_LEN as u16, rr::A, 4);
        self.put(address.to_ne_bytes());
        self.answer.answers = 1;
    }

    /// An IPv6 address.
    #[inline(always)]
    pub(super) fn aaaa(&mut self, address: Addr) {
        self.record(POINTER | HEADER_LEN as u16, rr::AAAA, 16);
        self.put(address.octets());
        self.answer.answers = 1;
    }

    /// The name in the scratch memory.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    pub(super) fn ptr(&mut self) {
        let len = self.pointer.len;
        self.record(POINTER | HEADER_LEN as u16, rr::PTR, len as u16);
        let mut i = 0;
        // All of it, zeros included, which what follows overwrites: a loop without a bound that has to be proven.
        while i < NAME_MAX {
            self.message[(self.answer.at as usize + i) & (2 * ANSWER_MAX - 1)] = self.pointer.name[i];
            i += 1;
        }
        self.answer.at += len;
        self.answer.answers = 1;
    }

    /// Where the host of the question listens (RFC 2782): a record without a choice, since it is behind the host's one
    /// address that replicas change. The target is written out, as that RFC wants it.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    pub(super) fn srv(&mut self, port: u32) {
        let (host, len) = (self.question.host, self.question.host_len());
        self.record(POINTER | HEADER_LEN as u16, rr::SRV, 6 + len as u16);
        self.put([0; 4]);
        self.put((port as u16).to_be_bytes());
        let mut i = 0;
        // As in `ptr`: more than the name, which what follows overwrites.
        while i < NAME_MAX {
            let octet = self.message[(host as usize + i) & (2 * ANSWER_MAX - 1)];
            self.message[(self.answer.at as usize + i) & (2 * ANSWER_MAX - 1)] = octet;
            i += 1;
        }
        self.answer.at += len;
        self.answer.answers = 1;
    }

    /// The name is there, but not with this type.
    #[inline(always)]
    pub(super) fn no_data(&mut self) {
        self.start_of_authority();
    }

    /// There is no such name.
    #[inline(always)]
    pub(super) fn no_such_name(&mut self) {
        self.answer.flags |= flag::NO_SUCH_NAME;
        self.start_of_authority();
    }

    /// There is no such name for one who may not reach it. Without an SOA: it is not ours to give, and nobody should
    /// remember it.
    #[inline(always)]
    pub(super) fn unknown_out_there(&mut self) {
        self.answer.flags = self.answer.flags & !flag::AUTHORITATIVE | flag::NO_SUCH_NAME;
    }

    /// The SOA that lets a "no" be remembered for [`TTL`] (RFC 2308 section 3). Its owner has to be at or above the
    /// name: `internal`, or else the root.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    fn start_of_authority(&mut self) {
        let question = &self.question;
        let owner = if below_internal(question, &self.message) { question.last } else { question.root() };
        self.record(POINTER | owner as u16, rr::SOA, SOA.len() as u16 + 4);
        self.put(SOA);
        self.put(TTL.to_be_bytes());
        self.answer.authorities = 1;
    }

    #[inline(always)]
    fn record(&mut self, owner: u16, kind: u16, len: u16) {
        self.put(owner.to_be_bytes());
        self.put(kind.to_be_bytes());
        self.put(rr::IN.to_be_bytes());
        self.put(TTL.to_be_bytes());
        self.put(len.to_be_bytes());
    }

    #[inline(always)]
    fn put<const N: usize>(&mut self, octets: [u8; N]) {
        let mut i = 0;
        while i < N {
            self.message[(self.answer.at as usize + i) & (2 * ANSWER_MAX - 1)] = octets[i];
            i += 1;
        }
        self.answer.at += N as u32;
    }

    /// Appends the OPT record as it came with the question, whose message begins at `at`, and fills in the header. The
    /// answer's length, or `None` when the record is not where it was.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    pub(super) fn finish(&mut self, bytes: &impl Bytes, at: u32) -> Option<u32> {
        let Parsed { end, opt_len, .. } = self.question;
        if opt_len > 0 {
            bytes.copy(at + end, opt_len, &mut self.message, self.answer.at)?;
        }
        let len = self.answer.at + opt_len;
        // For the checksum, which goes by words.
        self.answer.at = len;
        self.put([0; 3]);
        let Answer { flags, answers, authorities, .. } = self.answer;
        self.answer.at = 2;
        self.put(flags.to_be_bytes());
        self.put(1_u16.to_be_bytes());
        self.put(answers.to_be_bytes());
        self.put(authorities.to_be_bytes());
        self.put(u16::from(opt_len > 0).to_be_bytes());
        Some(len)
    }
}
