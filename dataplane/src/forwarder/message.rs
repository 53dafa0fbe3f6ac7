//! DNS messages as they come and go; the wire format is hickory's business, what they mean is ours.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// Shortest DNS message: its header (RFC 1035 section 4.1.1).
const HEADER_LEN: usize = 12;
/// What every UDP client takes (RFC 1035 section 4.2.1).
const UDP_MIN: u16 = 512;
/// The most that goes into one datagram: no fragments on any usual path (DNS Flag Day 2020).
pub(super) const UDP_MAX: u16 = 1232;
/// The only version of EDNS (RFC 6891 section 6.1.3).
const EDNS_VERSION: u8 = 0;
/// Longest time to remember an answer; a day, as resolvers commonly have it.
const TTL_MAX: u32 = 86_400;
/// Longest time to remember that there is no answer (RFC 2308 section 5 wants a bound of hours; users want minutes).
const NEGATIVE_TTL_MAX: u32 = 300;

/// A question that can be answered.
#[derive(Debug, Clone)]
pub(super) struct Question {
    id: u16,
    recursion_desired: bool,
    checking_disabled: bool,
    query: Query,
    edns: Option<Edns>,
}

/// What came in.
pub(super) enum Incoming {
    /// To be answered.
    Question(Box<Question>),
    /// Answered already: it is no question that is answered here.
    Refused(Vec<u8>),
    /// Not to be answered: too short to have an id, or itself an answer.
    Nothing,
}

/// What makes two questions the same one for upstream and cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    name: Name,
    kind: RecordType,
    dnssec: bool,
    checking_disabled: bool,
}

/// An answer without what depends on the asker.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    code: ResponseCode,
    authentic: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
}

/// An id that nobody can guess.
pub(super) fn random_id() -> u16 {
    Message::query().metadata.id
}

/// Reads what a client sent.
pub(super) fn read(bytes: &[u8]) -> Incoming {
    let Some([id_high, id_low, flags, ..]) = bytes.get(..HEADER_LEN) else { return Incoming::Nothing };
    if flags & 0x80 != 0 {
        return Incoming::Nothing;
    }
    let id = u16::from_be_bytes([*id_high, *id_low]);
    let refuse = |code| error(id, OpCode::from_u8(flags >> 3 & 0x0f), code);
    let Ok(message) = Message::from_vec(bytes) else { return refuse(ResponseCode::FormErr) };
    let [query] = message.queries.as_slice() else { return refuse(ResponseCode::FormErr) };
    if message.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    if message.edns.as_ref().is_some_and(|edns| edns.version() > EDNS_VERSION) {
        return bad_version(id, query);
    }
    let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
    if query.query_class() != DNSClass::IN || transfer {
        return refuse(ResponseCode::Refused);
    }
    Incoming::Question(Box::new(Question {
        id,
        recursion_desired: message.metadata.recursion_desired,
        checking_disabled: message.metadata.checking_disabled,
        query: query.clone(),
        edns: message.edns,
    }))
}

fn error(id: u16, op_code: OpCode, code: ResponseCode) -> Incoming {
    Message::error_msg(id, op_code, code).to_vec().map_or(Incoming::Nothing, Incoming::Refused)
}

/// BADVERS, with the version that is spoken here (RFC 6891 section 6.1.3).
fn bad_version(id: u16, query: &Query) -> Incoming {
    let mut message = Message::error_msg(id, OpCode::Query, ResponseCode::BADVERS);
    message.add_query(query.clone());
    message.set_edns(our_edns(false));
    message.to_vec().map_or(Incoming::Nothing, Incoming::Refused)
}

fn our_edns(dnssec: bool) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_MAX).set_version(EDNS_VERSION).set_dnssec_ok(dnssec);
    edns
}

impl Question {
    pub(super) fn name(&self) -> &Name {
        self.query.name()
    }

    pub(super) fn key(&self) -> Key {
        Key {
            name: self.query.name().to_lowercase(),
            kind: self.query.query_type(),
            dnssec: self.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok),
            checking_disabled: self.checking_disabled,
        }
    }

    /// The longest answer that its asker takes in a datagram.
    pub(super) fn udp_limit(&self) -> usize {
        self.edns.as_ref().map_or(UDP_MIN, Edns::max_payload).clamp(UDP_MIN, UDP_MAX).into()
    }

    /// The question in the plainest form, which the kernel's parser takes: header, question, an OPT without options
    /// when there was one.
    pub(super) fn plain(&self) -> Option<Vec<u8>> {
        let mut message = Message::new(self.id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.add_query(self.query.clone());
        message.edns = self.edns.as_ref().map(|edns| our_edns(edns.flags().dnssec_ok));
        message.to_vec().ok()
    }

    /// `reply` for this asker, at most `limit` octets long: one that is longer says so, and is asked for again over TCP.
    pub(super) fn answer(&self, reply: &Reply, limit: usize) -> Option<Vec<u8>> {
        let mut message = self.header(reply.code);
        message.metadata.authentic_data = reply.authentic;
        message.answers.clone_from(&reply.answers);
        message.authorities.clone_from(&reply.authorities);
        message.additionals.clone_from(&reply.additionals);
        let bytes = message.to_vec().ok()?;
        if bytes.len() <= limit { Some(bytes) } else { message.truncate().to_vec().ok() }
    }

    /// Cannot be answered now.
    pub(super) fn failure(&self) -> Option<Vec<u8>> {
        self.header(ResponseCode::ServFail).to_vec().ok()
    }

    /// Does not exist for this asker.
    pub(super) fn nonexistent(&self) -> Option<Vec<u8>> {
        self.header(ResponseCode::NXDomain).to_vec().ok()
    }

    fn header(&self, code: ResponseCode) -> Message {
        let mut message = Message::error_msg(self.id, OpCode::Query, code);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.recursion_available = true;
        message.add_query(self.query.clone());
        message.edns = self.edns.as_ref().map(|edns| our_edns(edns.flags().dnssec_ok));
        message
    }
}

impl Key {
    /// The question for a name server, under an id of its own.
    pub(super) fn ask(&self, id: u16) -> Option<Vec<u8>> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.add_query(Query::query(self.name.clone(), self.kind));
        message.set_edns(our_edns(self.dnssec));
        message.to_vec().ok()
    }

    /// Reads what a name server sent; `None` when it does not answer this question under this id.
    pub(super) fn read_answer(&self, id: u16, bytes: &[u8]) -> Option<Answered> {
        let message = Message::from_vec(bytes).ok()?;
        let Metadata { id: its_id, message_type, response_code, truncation, authentic_data, .. } = message.metadata;
        let same_question = match message.queries.as_slice() {
            [query] => query.name().to_lowercase() == self.name && query.query_type() == self.kind,
            // A server that finds fault with a question may leave it out.
            [] => response_code != ResponseCode::NoError && response_code != ResponseCode::NXDomain,
            _ => false,
        };
        if its_id != id || message_type != MessageType::Response || !same_question {
            return None;
        }
        if truncation {
            return Some(Answered::Truncated);
        }
        Some(Answered::Whole(Reply {
            code: response_code,
            authentic: authentic_data,
            answers: message.answers,
            authorities: message.authorities,
            additionals: message.additionals,
        }))
    }
}

/// What a name server said.
pub(super) enum Answered {
    /// All of it.
    Whole(Reply),
    /// It does not fit into a datagram.
    Truncated,
}

impl Reply {
    /// Whether another name server may know better.
    pub(super) fn is_failure(&self) -> bool {
        !matches!(self.code, ResponseCode::NoError | ResponseCode::NXDomain)
    }

    /// How many records it has.
    pub(super) fn len(&self) -> usize {
        self.answers.len() + self.authorities.len() + self.additionals.len()
    }

    /// For how many seconds it may be used again; 0: not at all (RFC 2308 section 5).
    pub(super) fn ttl(&self) -> u32 {
        let positive = self.code == ResponseCode::NoError && !self.answers.is_empty();
        if positive {
            let all = self.answers.iter().chain(&self.authorities).chain(&self.additionals);
            return all.map(|record| record.ttl).min().unwrap_or(0).min(TTL_MAX);
        }
        if self.is_failure() {
            return 0;
        }
        let soa = self.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        });
        soa.unwrap_or(0).min(NEGATIVE_TTL_MAX)
    }

    /// The same, `seconds` later.
    pub(super) fn aged(&self, seconds: u32) -> Self {
        let mut aged = self.clone();
        let all = aged.answers.iter_mut().chain(&mut aged.authorities).chain(&mut aged.additionals);
        all.for_each(|record| record.ttl = record.ttl.saturating_sub(seconds));
        aged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question as a client writes it.
    fn question(edns: bool) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii("Api.Internal.").unwrap(), RecordType::A));
        message.edns = edns.then(|| our_edns(false));
        message.to_vec().unwrap()
    }

    #[test]
    fn the_plain_form_is_what_came() {
        for edns in [false, true] {
            let bytes = question(edns);
            let Incoming::Question(question) = read(&bytes) else { panic!("no question") };
            assert_eq!(question.plain().unwrap(), bytes);
        }
    }
}
