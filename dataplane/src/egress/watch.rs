//! Whether the firewall is as it was left, without running its programs: a number that the kernel changes with each
//! transaction, and behind it a digest of the few rules that matter here.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::fd::OwnedFd;

use futures_util::{Stream, StreamExt as _};
use nix::sys::socket::SockProtocol;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::EgressRules;
use super::firewalld;
use super::legacy;
use super::nft::table_name;
use crate::nlmsg;

/// `NFT_MSG_…` of the kernel's `include/uapi/linux/netfilter/nf_tables.h`, in the subsystem `NFNL_SUBSYS_NFTABLES`.
mod message {
    const SUBSYSTEM: u16 = 10 << 8;
    pub(super) const GET_TABLE: u16 = SUBSYSTEM | 1;
    pub(super) const GET_CHAIN: u16 = SUBSYSTEM | 4;
    pub(super) const GET_RULE: u16 = SUBSYSTEM | 7;
    pub(super) const GET_GENERATION: u16 = SUBSYSTEM | 16;
}

/// Attributes, each numbered within its kind of message.
mod attribute {
    pub(super) const GENERATION_ID: u16 = 1;
    /// Of a table, a chain and a rule.
    pub(super) const TABLE: u16 = 1;
    pub(super) const TABLE_FLAGS: u16 = 2;
    pub(super) const CHAIN_NAME: u16 = 3;
    /// How many rules jump there; and the packets of its policy.
    pub(super) const CHAIN_CHANGING: [u16; 2] = [6, 8];
    pub(super) const RULE_CHAIN: u16 = 2;
    pub(super) const RULE_EXPRESSIONS: u16 = 4;
    pub(super) const EXPRESSION_NAME: u16 = 1;
}

/// `NFNLGRP_NFTABLES`: what each transaction changed.
const GROUP: u32 = 7;

/// `NFPROTO_…`.
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// The chains that may hold the rules of [`super::iptables`].
const SHARED_TABLE: &str = "filter";
const SHARED_CHAINS: [&str; 3] = ["DOCKER-USER", "FORWARD", "INPUT"];

/// Remembers the firewall as it was found to be right.
#[derive(Debug)]
pub(crate) struct Watch {
    socket: OwnedFd,
    right: Option<Right>,
    rewritten: bool,
}

#[derive(Debug)]
struct Right {
    rules: EgressRules,
    found: Found,
}

/// The firewall at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Another one after each transaction, anybody's.
    generation: [u8; 4],
    /// Of our table, and the chains that we share.
    digest: u64,
    /// Of the older backend's tables, which have no such number.
    legacy: u64,
}

impl Watch {
    /// Nothing is known to be right yet.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { socket: nlmsg::open(SockProtocol::NetlinkNetFilter)?, right: None, rewritten: false })
    }

    /// Whether the rules are still as they were when [`Self::found`] was told. A question that the kernel does not
    /// answer counts as no.
    pub(crate) fn is_as_left(&mut self, rules: &EgressRules) -> bool {
        let Some(right) = self.right.as_mut().filter(|right| right.rules == *rules) else { return false };
        let (Ok(generation), Ok(legacy)) = (generation(&self.socket), legacy::digest()) else { return false };
        if legacy != right.found.legacy {
            return false;
        }
        if generation == right.found.generation {
            return true;
        }
        // Somebody changed something: perhaps only what is theirs.
        let same = digest(&self.socket, rules).is_ok_and(|digest| digest == right.found.digest);
        if same {
            right.found.generation = generation;
        }
        same
    }

    /// The firewall as it is now, to be found right or wrong.
    pub(crate) fn look(&self, rules: &EgressRules) -> io::Result<Found> {
        // The generation first: what changes meanwhile makes another one.
        let generation = generation(&self.socket)?;
        Ok(Found { generation, digest: digest(&self.socket, rules)?, legacy: legacy::digest()? })
    }

    /// The programs were run in between: what was found before they were asked is right when they changed nothing.
    pub(crate) fn found(&mut self, rules: &EgressRules, changed: bool, before: Option<Found>, after: Option<Found>) {
        let rewritten = !changed && before != after;
        // A release of nft that lists a rule in other words than ours has the table written anew at each look; the
        // second time in a row it is taken as it is. Anybody's change in between has been looked at by then.
        let right = if rewritten && !self.rewritten { None } else { after.filter(|_| !changed) };
        self.rewritten = rewritten;
        self.right = right.map(|found| Right { rules: rules.clone(), found });
    }
}

/// A message whenever somebody changed rules; many at once are one. Ends when the socket fails.
///
/// # Errors
/// The kernel's, such as one without nftables.
pub(crate) fn changes() -> io::Result<impl Stream<Item = ()> + Send + Unpin> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.add_membership(GROUP)?;
    let socket = nlmsg::readable(socket)?;
    Ok(futures_util::stream::unfold(socket, |socket| async {
        loop {
            let mut ready = socket.readable().await.ok()?;
            let drained = ready.try_io(|socket| drain(socket.get_ref()));
            drop(ready);
            match drained {
                Ok(Ok(())) => return Some(((), socket)),
                Ok(Err(_)) => return None,
                Err(_) => {}
            }
        }
    })
    .boxed())
}

/// Takes everything that waits; that some was lost is news as well.
fn drain(socket: &Socket) -> io::Result<()> {
    let mut buffer = bytes::BytesMut::with_capacity(64);
    let mut told = false;
    loop {
        buffer.clear();
        match socket.recv(&mut buffer, libc::MSG_TRUNC) {
            Ok(_) => told = true,
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => told = true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && told => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn generation(socket: &OwnedFd) -> io::Result<[u8; 4]> {
    let mut found = None;
    nlmsg::ask(socket, message::GET_GENERATION, false, &header(0), |body| {
        found = nlmsg::attribute(content(body), attribute::GENERATION_ID).map(|id| nlmsg::word(id, 0));
    })?;
    found.ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))
}

/// Of everything that the rules consist of, without what packets change.
fn digest(socket: &OwnedFd, rules: &EgressRules) -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    let own = table_name(&rules.node);
    for (family, table, chains) in [
        (INET, own.as_str(), None),
        // It forgets devices when it loads its own rules anew.
        (INET, firewalld::TABLE, None),
        (IPV4, SHARED_TABLE, Some(&SHARED_CHAINS)),
        (IPV6, SHARED_TABLE, Some(&SHARED_CHAINS)),
    ] {
        let is_ours = |name: &[u8]| text(name) == table.as_bytes();
        let concerns =
            |name: &[u8]| chains.is_none_or(|chains| chains.iter().any(|chain| text(name) == chain.as_bytes()));
        nlmsg::ask(socket, message::GET_TABLE, true, &header(family), |body| {
            if nlmsg::attribute(content(body), attribute::TABLE).is_some_and(is_ours) {
                (family, nlmsg::attribute(content(body), attribute::TABLE_FLAGS)).hash(&mut hasher);
            }
        })?;
        nlmsg::ask(socket, message::GET_CHAIN, true, &header(family), |body| {
            let body = content(body);
            let name = nlmsg::attribute(body, attribute::CHAIN_NAME).unwrap_or_default();
            if nlmsg::attribute(body, attribute::TABLE).is_some_and(is_ours) && concerns(name) {
                let lasting = nlmsg::attributes(body).filter(|(kind, _)| !attribute::CHAIN_CHANGING.contains(kind));
                lasting.for_each(|part| part.hash(&mut hasher));
            }
        })?;
        let mut request = header(family);
        request.extend(nlmsg::text_attribute(attribute::TABLE, table));
        nlmsg::ask(socket, message::GET_RULE, true, &request, |body| {
            let body = content(body);
            let chain = nlmsg::attribute(body, attribute::RULE_CHAIN).unwrap_or_default();
            if nlmsg::attribute(body, attribute::TABLE).is_some_and(is_ours) && concerns(chain) {
                nlmsg::attributes(body).for_each(|(kind, payload)| match kind {
                    attribute::RULE_EXPRESSIONS => hash_expressions(payload, &mut hasher),
                    _ => (kind, payload).hash(&mut hasher),
                });
            }
        })?;
    }
    Ok(hasher.finish())
}

/// All of each expression, but of a counter only that it is there.
fn hash_expressions(expressions: &[u8], hasher: &mut DefaultHasher) {
    for (_, expression) in nlmsg::attributes(expressions) {
        let name = nlmsg::attribute(expression, attribute::EXPRESSION_NAME).unwrap_or_default();
        match text(name) {
            b"counter" => name.hash(hasher),
            _ => expression.hash(hasher),
        }
    }
}

/// `struct nfgenmsg`: family, version, resource.
fn header(family: u8) -> Vec<u8> {
    vec![family, 0, 0, 0]
}

/// A body without its `struct nfgenmsg`, which has the generation in it.
fn content(body: &[u8]) -> &[u8] {
    body.get(4..).unwrap_or_default()
}

/// A text attribute without its final zero.
fn text(payload: &[u8]) -> &[u8] {
    payload.strip_suffix(&[0]).unwrap_or(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(name: &str, data: &[u8]) -> Vec<u8> {
        nlmsg::put_attribute(1, &[nlmsg::text_attribute(1, name), nlmsg::put_attribute(2, data)].concat())
    }

    #[test]
    fn what_packets_count_is_no_change_and_another_comparison_is() {
        let digest = |counted: u8, compared: u8| {
            let mut hasher = DefaultHasher::new();
            hash_expressions(
                &[expression("cmp", &[compared]), expression("counter", &[counted])].concat(),
                &mut hasher,
            );
            hasher.finish()
        };
        assert_eq!(digest(0, 1), digest(9, 1));
        assert_ne!(digest(0, 1), digest(0, 2));
    }
}
