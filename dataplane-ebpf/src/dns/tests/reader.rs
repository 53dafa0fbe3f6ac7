//! Questions as a client writes them, and answers as it reads them: RFC 1035 once more, by other code.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    string::{String, ToString as _},
};

use crate::{
    abi::{Addr, NAME_MAX, Name, NameKey, NodeConfig, Pool, Ptr, PtrKey, flags},
    decide::Asker,
    dns::{self, Outcome, Scratch},
    tables::fake::Fake,
};

pub(super) const VIP4: Ipv4Addr = Ipv4Addr::new(10, 224, 1, 1);
pub(super) const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd53, 0x6b65, 0x7001, 0, 0, 0, 1, 1);

pub(super) const A: u16 = 1;
pub(super) const SOA: u16 = 6;
pub(super) const PTR: u16 = 12;
pub(super) const MX: u16 = 15;
pub(super) const AAAA: u16 = 28;
pub(super) const SRV: u16 = 33;
/// Where `api` listens; of `old` nobody knows.
pub(super) const PORT: u16 = 8080;

/// In environment 1, network 0b01, without a way out.
pub(super) const ASKER: Asker = Asker { env: 1, flags: 0, networks: 0b01 };
/// The same with a way out.
pub(super) const WORLDLY: Asker = Asker { flags: flags::EGRESS, ..ASKER };

/// The wire format of a dotted name.
pub(super) fn wire(name: &str) -> Vec<u8> {
    let mut wire: Vec<u8> = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

fn padded(name: &str) -> [u8; NAME_MAX] {
    let mut wire = wire(name);
    wire.resize(NAME_MAX, 0);
    wire.try_into().unwrap()
}

/// `api` (IPv4 and IPv6), `old` (IPv4), `hidden` (in another network), and reverse names.
pub(super) fn tables() -> Fake {
    let mut fake = Fake {
        node: Some(NodeConfig {
            container_pools: [
                Pool::new(Ipv4Addr::new(10, 208, 0, 0).into(), 12),
                Pool::new(Ipv6Addr::new(0xfd53, 0x6b65, 0x7000, 0, 0, 0, 0, 0).into(), 48),
            ],
            vip_pools: [
                Pool::new(Ipv4Addr::new(10, 224, 0, 0).into(), 16),
                Pool::new(Ipv6Addr::new(0xfd53, 0x6b65, 0x7001, 0, 0, 0, 0, 0).into(), 64),
            ],
            ..NodeConfig::default()
        }),
        ..Fake::default()
    };
    let vip4 = Addr::from(VIP4).v4_word();
    for name in ["api", "api.internal", "api.production.shop.internal"] {
        let value = Name { networks: 0b01, vip4, vip6: VIP6.into(), port: PORT.into(), ..Name::default() };
        fake.names.insert(NameKey { env: 1, name: padded(name) }, value);
    }
    fake.names.insert(NameKey { env: 1, name: padded("old") }, Name { networks: 0b11, vip4, ..Name::default() });
    fake.names.insert(NameKey { env: 1, name: padded("hidden") }, Name { networks: 0b10, vip4, ..Name::default() });
    let api = "api.production.shop.internal";
    for addr in [Addr::from(VIP4), VIP6.into()] {
        let value = Ptr { networks: 0b01, name: padded(api), len: wire(api).len() as u32, pad: 0, seal: 0 };
        fake.ptrs.insert(PtrKey { env: 1, addr }, value);
    }
    fake
}

/// A question with recursion desired.
pub(super) fn question(name: &[u8], kind: u16) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(name);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// An OPT record with a cookie: 23 octets.
pub(super) fn opt() -> Vec<u8> {
    let mut opt = vec![0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 12, 0, 10, 0, 8];
    opt.extend(*b"cookie!!");
    opt
}

/// A record of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Record {
    pub(super) owner: String,
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) ttl: u32,
    pub(super) data: Vec<u8>,
}

/// An answer, taken apart to its last octet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    pub(super) id: u16,
    pub(super) flags: u16,
    pub(super) question: Vec<u8>,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additional: Vec<Record>,
}

impl Answer {
    pub(super) fn rcode(&self) -> u16 {
        self.flags & 0xf
    }

    /// Reads a message; panics where it breaks off or goes on.
    pub(super) fn read(message: &[u8]) -> Self {
        let half = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
        let (_, name_end) = name(message, 12);
        let mut at = name_end + 4;
        let question = message[12..at].to_vec();
        assert_eq!(half(4), 1);
        let mut section = |count: u16| -> Vec<Record> {
            (0..count)
                .map(|_| {
                    let (owner, end) = name(message, at);
                    let ttl = u32::from(half(end + 4)) << 16 | u32::from(half(end + 6));
                    let data_end = end + 10 + usize::from(half(end + 8));
                    at = data_end;
                    let data = message[end + 10..data_end].to_vec();
                    Record { owner, kind: half(end), class: half(end + 2), ttl, data }
                })
                .collect()
        };
        let (answers, authorities, additional) = (section(half(6)), section(half(8)), section(half(10)));
        assert_eq!(at, message.len(), "octets that belong to nothing");
        Self { id: half(0), flags: half(2), question, answers, authorities, additional }
    }
}

/// The name at `at` with its pointers followed, and where the octets after it begin.
pub(super) fn name(message: &[u8], mut at: usize) -> (String, usize) {
    let (mut text, mut end) = (String::new(), None);
    loop {
        match message[at] {
            0 => return (if text.is_empty() { ".".to_string() } else { text }, end.unwrap_or(at + 1)),
            length @ 1..=63 => {
                text += &String::from_utf8_lossy(&message[at + 1..at + 1 + usize::from(length)]);
                text.push('.');
                at += 1 + usize::from(length);
            }
            pointer => {
                assert_eq!(pointer >> 6, 3);
                end = end.or(Some(at + 2));
                let to = usize::from(pointer & 0x3f) << 8 | usize::from(message[at + 1]);
                assert!(to < at, "a pointer forward");
                at = to;
            }
        }
    }
}

/// What becomes of a message.
pub(super) fn outcome(fake: &Fake, asker: &Asker, message: &[u8], scratch: &mut Scratch) -> Outcome {
    // Not at the beginning, as in a packet.
    let packet = [&[0xee; 42], message].concat();
    dns::answer(fake, asker, &packet.as_slice(), 42, message.len() as u32, scratch)
}

/// The answer to a message that is answered.
pub(super) fn answer(fake: &Fake, asker: &Asker, message: &[u8]) -> Answer {
    // Memory that another answer has been in.
    let mut scratch = Scratch { message: [0xa5; 1024], ..Scratch::default() };
    let Outcome::Answer(len) = outcome(fake, asker, message, &mut scratch) else {
        panic!("no answer to {message:?}");
    };
    assert!(len <= 512);
    let len = len as usize;
    assert!(scratch.message[len..len.next_multiple_of(4)].iter().all(|octet| *octet == 0), "what is summed up");
    let answer = Answer::read(&scratch.message[..len]);
    assert_eq!(answer.id, u16::from_be_bytes([message[0], message[1]]));
    assert_eq!(answer.question, message[12..12 + answer.question.len()], "the question as it came");
    answer
}

/// The answer to a question by name.
pub(super) fn ask(asker: &Asker, name: &str, kind: u16) -> Answer {
    answer(&tables(), asker, &question(&wire(name), kind))
}
