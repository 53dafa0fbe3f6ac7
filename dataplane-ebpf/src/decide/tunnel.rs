//! The way to a replica on another node.

use super::{
    Frame, Workspace,
    boundary::{Sender, Step},
};
use crate::{
    abi::Reason,
    packet::{self, Bytes, ETHERNET_LEN, Fragment, Packet, Transport, protocol, too_big},
    tables::{Host, Tables},
};

/// What the kernel says instead of a size when the packets that a frame stands for differ in theirs (SCTP): its sender
/// has cut them to what it knows of the path.
const GSO_BY_FRAGS: u16 = 0xffff;
/// Where in the TCP header the upper half of an octet says how many words of four octets it has (RFC 9293 section 3.1).
const TCP_WORDS: u32 = 12;

/// Into the tunnel to the node of the workspace's endpoint, if there is one and the packet fits.
///
/// What is too big is refused whether it may be fragmented or not: a tunnel in userspace reads no more than its device's
/// MTU, so that the rest would be lost in silence. Linux believes the message either way, and then fragments by itself.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn enter(
    sender: &Sender<'_, impl Tables, impl Host, impl Bytes>,
    Workspace { endpoint, packet, way, key, .. }: &mut Workspace,
) -> Result<Step, Reason> {
    if !sender.tables.way(endpoint.node, way)? || way.ifindex == 0 {
        return Err(Reason::NoTunnel);
    }
    if largest(sender.frame, sender.bytes, packet) <= way.mtu {
        return Ok(Step::Tunnel);
    }
    // RFC 1122 section 3.2.2 and RFC 4443 section 2.4: nothing is said about a later fragment, nor about an error.
    let whole = packet.end - ETHERNET_LEN >= too_big::quoted(packet.family);
    if matches!(packet.fragment, Fragment::Later) || !whole {
        return Err(Reason::TooBig);
    }
    *key = match packet::transport(sender.bytes, packet)? {
        Transport::Ports { source, destination } => packet.tuple(source, destination),
        Transport::EchoRequest(id) | Transport::EchoReply(id) => packet.tuple(id, id),
        Transport::IcmpError | Transport::IcmpOther => return Err(Reason::TooBig),
    };
    Ok(Step::TooBig)
}

/// Octets of the largest IP packet that a frame stands for.
#[inline(always)]
fn largest(frame: &Frame, bytes: &impl Bytes, packet: &Packet) -> u32 {
    let whole = packet.end - ETHERNET_LEN;
    let headers = match (frame.gso, packet.protocol) {
        (0, _) => return whole,
        (GSO_BY_FRAGS, _) => return 0,
        (_, protocol::TCP) => bytes.load(packet.transport + TCP_WORDS).map_or(0, |[octet, _]: [u8; 2]| octet >> 4) * 4,
        (_, protocol::UDP) => size_of::<packet::Udp>() as u8,
        _ => 0,
    };
    let segment = packet.transport - ETHERNET_LEN + u32::from(headers) + u32::from(frame.gso);
    if segment < whole { segment } else { whole }
}
