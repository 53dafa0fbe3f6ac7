//! What happens to a packet: the one place where it is decided.
//!
//! Every function here is a pure one over [`Tables`], [`Host`] and the frame's octets. Traffic between two
//! services that share a network is decided by two look-ups ([`Tables::device`], [`Tables::endpoint`]); all else
//! crosses a boundary and is decided by rules and remembered flows.

mod boundary;
pub mod egress;
mod flows;
mod from_container;
mod from_wireguard;
pub mod grant;
pub mod mark;
pub mod socket;
mod to_container;
mod tunnel;

use crate::{
    abi::{Addr, Device, Endpoint, Flow, FlowKey, Grant, GrantKey, Identity, Node, Reason},
    packet::{self, Bytes, Ethernet, Family, Packet, protocol},
    tables::Tables,
};
pub use flows::lifetime;
pub use from_container::from_container;
pub use from_wireguard::from_wireguard;
pub use to_container::to_container;

#[cfg(doc)]
use crate::tables::Host;

/// What the kernel says about a frame, outside of its octets. No container can write any of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Frame {
    /// The device that the program is attached to: the host end of a veth, or a tunnel.
    pub ifindex: u32,
    /// The device that the packet came to this host by; 0: made on this host.
    pub ingress_ifindex: u32,
    /// The packet's mark.
    pub mark: u32,
    /// It came with a VLAN tag, which the kernel has taken off.
    pub vlan: bool,
    /// Octets of payload in each of the packets that it stands for (segmentation offload); 0: it is one packet.
    pub gso: u16,
}

/// Memory to decide in: more than a program's stack has, and a program's functions share it without copies.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Workspace {
    device: Device,
    packet: Packet,
    /// Who has the destination, if it is in the container pool.
    endpoint: Endpoint,
    /// The way to its node, if that is another one.
    way: Node,
    /// What an ICMP error quotes.
    quote: Packet,
    /// The flow that the packet is part of, as its sender sees it.
    key: FlowKey,
    /// The flow that the packet answers.
    asked: FlowKey,
    /// What is remembered of either.
    flow: Flow,
    /// Whether it answers what is remembered.
    answers: bool,
    /// What the packet, or the one that it answers, asks for across a boundary.
    grant: GrantKey,
    /// What a rule says to that.
    rule: Grant,
}

impl Workspace {
    /// The tuple of a packet that does not fit through a tunnel.
    #[inline(always)]
    pub fn too_big(&self) -> &FlowKey {
        &self.key
    }

    /// Who receives a packet that [`from_wireguard`] delivers, and the Ethernet addresses with which: the receiver's,
    /// the sender's.
    #[inline(always)]
    pub fn receiver(&self) -> (Identity, [[u8; 6]; 2]) {
        (self.device.identity, [self.device.mac, self.device.host_mac])
    }
}

/// A decision, and who it is counted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The replica behind the device, or the one on another node that sent it; [`Identity::WORLD`] when it is unknown.
    pub who: Identity,
    /// What is done.
    pub verdict: Verdict,
}

/// What is done with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It ends here.
    Drop(Reason),
    /// Into a replica on this node, past the host's stack.
    Deliver {
        /// Host end of its veth.
        ifindex: u32,
    },
    /// To a replica on another node, past the host's stack.
    Tunnel {
        /// The tunnel device.
        ifindex: u32,
    },
    /// It ends here, and its sender is told how much fits through the tunnel. [`Workspace::too_big`] has its tuple.
    TooBig(TooBig),
    /// Marked as let through, and to the host's stack.
    Stack,
    /// On to the container, untouched.
    Pass,
    /// A DNS question, to be answered where it stands or left to the forwarder.
    Dns(Question),
    /// An echo request to an address that no device has, to be turned round where it stands.
    Echo(Echo),
}

/// A packet that does not fit through a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooBig {
    /// IP version.
    pub family: Family,
    /// Octets of the largest IP packet that fits.
    pub mtu: u32,
}

/// An echo request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo {
    /// IP version.
    pub family: Family,
    /// Offset of the ICMP header.
    pub at: u32,
}

/// A UDP packet to the DNS address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// Who asks.
    pub asker: Asker,
    /// Offset of the DNS message.
    pub at: u32,
    /// Its octets.
    pub len: u32,
}

/// Who asks for a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asker {
    /// Its environment.
    pub env: u32,
    /// [`crate::abi::flags`].
    pub flags: u32,
    /// Its networks, a bit each.
    pub networks: u64,
}

impl From<&Device> for Asker {
    #[inline(always)]
    fn from(device: &Device) -> Self {
        Self { env: device.identity.env, flags: device.flags, networks: device.networks }
    }
}

/// Finds out whose device it is; nobody's when it fails, whatever was read.
#[inline(always)]
fn own_device(tables: &impl Tables, frame: &Frame, device: &mut Device) -> Result<(), Reason> {
    let reason = match tables.device(frame.ifindex, device) {
        Ok(true) => return Ok(()),
        Ok(false) => Reason::UnknownDevice,
        Err(reason) => reason,
    };
    device.identity = Identity::WORLD;
    Err(reason)
}

/// Whether that is the replica's address. One that it does not have is zero in its device, which is also what a packet
/// says that has no source.
#[inline(always)]
fn is_own(device: &Device, family: Family, addr: &Addr) -> bool {
    match family {
        Family::V4 => addr.v4_word() == device.address4 && device.address4 != 0,
        Family::V6 => *addr == device.address6 && !addr.is_none(),
    }
}

/// Parses a frame up to its transport header, and refuses what no replica has business to send or to get.
#[inline(always)]
fn parse(frame: &Frame, bytes: &impl Bytes, packet: &mut Packet) -> Result<Ethernet, Reason> {
    if frame.vlan {
        return Err(Reason::VlanTag);
    }
    let ethernet: Ethernet = bytes.head::<_, 0>().ok_or(Reason::BadLength)?;
    packet::network(bytes, u16::from_be(ethernet.ether_type), frame.gso != 0, packet)?;
    if packet.protocol == protocol::ICMPV6 {
        packet::refuse_link_messages(bytes, packet)?;
    }
    Ok(ethernet)
}

#[cfg(test)]
mod tests;
