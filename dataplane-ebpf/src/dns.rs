//! The answer to a DNS question, out of the tables.
//!
//! A question is answered where it stands: header and question stay as they came (so that a client that mixes the
//! case of its questions gets them back), records are appended, and an OPT record is echoed after them. No
//! answer is longer than what every client takes ([`ANSWER_MAX`]), so none is ever truncated.

mod build;
mod parse;

use crate::{
    abi::{Addr, NAME_MAX, NameKey, Ptr, PtrKey, Reason, flags},
    decide::Asker,
    packet::Bytes,
    tables::Tables,
};
use build::Answer;
pub use build::{ANSWER_MAX, TTL};
use parse::{Kind, Parsed};

/// Octets of the DNS header (RFC 1035 section 4.1.1).
pub const HEADER_LEN: u32 = 12;
/// Longest name in its wire format (RFC 1035 section 2.3.4).
const WIRE_NAME_MAX: u32 = 255;
/// Longest OPT record that is echoed; clients send 11 octets, or 23 with a cookie.
const OPT_MAX: u32 = 128;

/// Types and classes of questions (RFC 1035 section 3.2).
mod rr {
    pub(super) const A: u16 = 1;
    pub(super) const SOA: u16 = 6;
    pub(super) const PTR: u16 = 12;
    pub(super) const AAAA: u16 = 28;
    pub(super) const SRV: u16 = 33;
    pub(super) const OPT: u16 = 41;
    pub(super) const IN: u16 = 1;
}

/// Memory to parse and answer in: more than a program's stack has.
///
/// What a step finds out lies here, too, and not in its result: to the kernel's verifier, memory holds just any value,
/// so that it looks at the next step once and not once for each of the hundred ways that lead there.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    /// The question, then the answer. Twice what is used, so that an offset and a length can each be masked.
    pub message: Message,
    question: Parsed,
    name: NameKey,
    /// The address that a reverse name is of.
    address: Addr,
    pointer: Ptr,
    answer: Answer,
}

/// A message of at most [`ANSWER_MAX`] octets, twice as long as that.
pub type Message = [u8; 2 * ANSWER_MAX];

impl Default for Scratch {
    fn default() -> Self {
        Self {
            message: [0; 2 * ANSWER_MAX],
            question: Parsed::default(),
            name: NameKey { env: 0, name: [0; NAME_MAX] },
            address: Addr::NONE,
            pointer: Ptr { networks: 0, name: [0; NAME_MAX], len: 0, pad: 0, seal: 0 },
            answer: Answer::default(),
        }
    }
}

/// What is done with a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The answer is in [`Scratch::message`], this many octets long (at most [`ANSWER_MAX`]); zeros follow it
    /// up to a multiple of four.
    Answer(u32),
    /// It is about a name out there: left to the forwarder.
    Forward,
    /// It is no question that could be answered.
    Drop(Reason),
}

/// Answers the DNS message of `len` octets at `at` in `bytes`.
#[inline(always)]
pub fn answer(
    tables: &impl Tables,
    asker: &Asker,
    bytes: &impl Bytes,
    at: u32,
    len: u32,
    scratch: &mut Scratch,
) -> Outcome {
    match try_answer(tables, asker, bytes, at, len, scratch) {
        Ok(outcome) => outcome,
        Err(reason) => Outcome::Drop(reason),
    }
}

#[inline(always)]
fn try_answer(
    tables: &impl Tables,
    asker: &Asker,
    bytes: &impl Bytes,
    at: u32,
    len: u32,
    scratch: &mut Scratch,
) -> Result<Outcome, Reason> {
    let node = tables.node().ok_or(Reason::NoConfig)?;
    parse::question(bytes, at, len, scratch)?;
    let kind = parse::kind(scratch, node);
    if matches!(kind, Kind::Outside) && asker.flags & flags::EGRESS != 0 {
        return Ok(Outcome::Forward);
    }
    parse::additional(bytes, at, len, scratch)?;
    scratch.begin();
    match kind {
        // Resolving is a way out; musl waits five seconds on anything but a clear no.
        Kind::Outside => scratch.unknown_out_there(),
        _ if scratch.question.class != rr::IN => return Err(Reason::BadDns),
        Kind::Name => service(tables, asker, scratch)?,
        Kind::Address => pointer(tables, asker, scratch)?,
    }
    scratch.finish(bytes, at).map(Outcome::Answer).ok_or(Reason::BadDns)
}

/// Answers for a name that only Skep knows.
#[inline(always)]
fn service(tables: &impl Tables, asker: &Asker, scratch: &mut Scratch) -> Result<(), Reason> {
    parse::host(scratch);
    parse::lower_name(scratch, asker.env);
    let short = scratch.question.host_len() as usize <= NAME_MAX;
    let known = if short { tables.name(&scratch.name)? } else { None };
    let is_host = scratch.question.attributes == 0;
    match known.filter(|name| name.networks & asker.networks != 0) {
        None => scratch.no_such_name(),
        Some(name) => match scratch.question.kind {
            rr::A if is_host && name.vip4 != 0 => scratch.a(name.vip4),
            rr::AAAA if is_host && !name.vip6.is_none() => scratch.aaaa(name.vip6),
            rr::SRV if scratch.question.may_be_srv() && name.port != 0 => scratch.srv(name.port),
            _ => scratch.no_data(),
        },
    }
    Ok(())
}

/// Answers for an address of the pools: databases look up every client.
#[inline(always)]
fn pointer(tables: &impl Tables, asker: &Asker, scratch: &mut Scratch) -> Result<(), Reason> {
    let key = PtrKey { env: asker.env, addr: scratch.address };
    let known = tables.ptr(&key, &mut scratch.pointer)? && scratch.pointer.networks & asker.networks != 0;
    match scratch.question.kind {
        _ if !known => scratch.no_such_name(),
        rr::PTR => scratch.ptr(),
        _ => scratch.no_data(),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
