//! How many connections a network namespace still serves, as the kernel tells of its sockets: `NETLINK_SOCK_DIAG`,
//! sock_diag(7), and the structures of `include/uapi/linux/inet_diag.h`.
//!
//! What counts is a socket whose local port the namespace serves and whose peer is a replica of the cluster:
//!
//! | socket | counts | why |
//! |---|---|---|
//! | TCP `ESTABLISHED`, accepted yet or not | yes | somebody may wait for an answer |
//! | TCP `CLOSE_WAIT` | yes | the client has said all it will; the server has not answered yet |
//! | TCP `FIN_WAIT1`, `CLOSING`, `LAST_ACK` | with octets that the client has not acknowledged | the server has said all it will, but the end of it is still on its way, to a slow reader say, and would end with the namespace |
//! | TCP `FIN_WAIT2`, `TIME_WAIT` | no | the client's kernel has everything |
//! | TCP `SYN_RECV` | no | the client is told of no connection yet, and has sent nothing that could be lost; who never goes on must not hold up anybody |
//! | UDP, connected, on the port of one that is not | yes | a server that has a socket for each client |
//! | UDP, any other | no | one that is not connected has nobody in particular: who sent something to it once cannot be told from who still waits; a connected one that shares its port with none is a client's own |
//!
//! A port is served when a TCP socket listens on it *or did so at an earlier count*: who ends gracefully stops listening
//! first. The replica's own connections, to its database say, have a local port that nobody ever listened on. Peers
//! outside the container pools are not clients of the service, nor is the replica itself: what it says to its own
//! address ends with it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::socket::SockProtocol;

use super::{NetlinkError, Netns};
use crate::model::Pools;
use crate::nlmsg;

/// Connections that are served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// Over TCP.
    pub tcp: u32,
    /// Connected sockets of UDP.
    pub udp: u32,
}

impl Connections {
    /// Over either.
    pub fn total(self) -> u32 {
        self.tcp.saturating_add(self.udp)
    }
}

/// Counts what one network namespace serves.
#[derive(Debug)]
pub struct Meter {
    netns: Netns,
    pools: Pools,
    /// Ports on which a TCP socket listens, or did so at an earlier count.
    listened: BTreeSet<u16>,
}

impl Meter {
    /// Of `netns`, for clients that have an address of the container pools.
    pub fn new(netns: Netns, pools: Pools) -> Self {
        Self { netns, pools, listened: BTreeSet::new() }
    }

    /// What it serves now: a look at all sockets of the namespace, on a thread of its own.
    ///
    /// # Errors
    /// [`NetlinkError::EnterNetns`], [`NetlinkError::Sockets`]; never a count that leaves something out.
    pub async fn count(&mut self) -> Result<Connections, NetlinkError> {
        let inode = self.netns.inode();
        let sockets = self.netns.run(move || sockets(inode)).await?;
        let listening = |socket: &&Socket| socket.protocol == Protocol::Tcp && socket.state == state::LISTEN;
        self.listened.extend(sockets.iter().filter(listening).map(|socket| socket.local.port()));
        Ok(served(&sockets, &self.listened, &self.pools))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    const fn number(self) -> u8 {
        match self {
            Self::Tcp => libc::IPPROTO_TCP as u8,
            Self::Udp => libc::IPPROTO_UDP as u8,
        }
    }

    /// Of the kernel, which it loads by itself.
    const fn module(self) -> &'static str {
        match self {
            Self::Tcp => "tcp_diag",
            Self::Udp => "udp_diag",
        }
    }

    /// Those that can count, and those that say on which ports; a bit for each state.
    fn states(self) -> u32 {
        let states: &[u8] = match self {
            Self::Tcp => &[
                state::ESTABLISHED,
                state::CLOSE_WAIT,
                state::FIN_WAIT1,
                state::CLOSING,
                state::LAST_ACK,
                state::LISTEN,
            ],
            Self::Udp => &[state::ESTABLISHED, state::CLOSE],
        };
        states.iter().fold(0, |mask, state| mask | 1 << state)
    }
}

/// `include/net/tcp_states.h`, which UDP uses as well: a connected socket is `ESTABLISHED`, any other `CLOSE`.
mod state {
    pub(super) const ESTABLISHED: u8 = 1;
    pub(super) const FIN_WAIT1: u8 = 4;
    pub(super) const CLOSE: u8 = 7;
    pub(super) const CLOSE_WAIT: u8 = 8;
    pub(super) const LAST_ACK: u8 = 9;
    pub(super) const LISTEN: u8 = 10;
    pub(super) const CLOSING: u8 = 11;
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Socket {
    protocol: Protocol,
    state: u8,
    /// v4-mapped addresses as the IPv4 ones they are, here and in `peer`.
    local: SocketAddr,
    peer: SocketAddr,
    /// Octets that the peer has not acknowledged, the FIN being one.
    unacknowledged: u32,
}

/// Every socket of the calling thread's namespace that can matter: one dump for each protocol and family.
fn sockets(inode: u64) -> Result<Vec<Socket>, NetlinkError> {
    let socket = nlmsg::open(SockProtocol::NetlinkSockDiag).map_err(NetlinkError::Socket)?;
    let mut found = Vec::new();
    let mut unreadable = false;
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let request = request(family as u8, protocol.number(), protocol.states());
            let listed = nlmsg::ask(&socket, SOCK_DIAG_BY_FAMILY, true, &request, |message| {
                match Socket::parse(protocol, message) {
                    Some(socket) => found.push(socket),
                    None => unreadable = true,
                }
            });
            listed.map_err(|source| NetlinkError::Sockets { module: protocol.module(), inode, source })?;
        }
    }
    if unreadable {
        return Err(NetlinkError::Incomplete { object: format!("a socket in net:[{inode}]"), part: "addresses" });
    }
    Ok(found)
}

/// Of `include/uapi/linux/sock_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// `struct inet_diag_req_v2`: family, protocol, no extensions, the states, and 48 octets for the identity of one
/// socket, of which a dump looks at none.
fn request(family: u8, protocol: u8, states: u32) -> [u8; 56] {
    let mut request = [0; 56];
    request[0] = family;
    request[1] = protocol;
    request[4..8].copy_from_slice(&states.to_ne_bytes());
    request
}

impl Socket {
    /// Out of `struct inet_diag_msg`: ports and addresses are in network order.
    fn parse(protocol: Protocol, message: &[u8]) -> Option<Self> {
        let family = i32::from(*message.first()?);
        let port = |at: usize| Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?));
        let address = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 16] = *message.get(at..)?.first_chunk()?;
            match family {
                libc::AF_INET => Some(Ipv4Addr::from(*octets.first_chunk::<4>()?).into()),
                libc::AF_INET6 => Some(Ipv6Addr::from(octets).to_canonical()),
                _ => None,
            }
        };
        Some(Self {
            protocol,
            state: *message.get(1)?,
            local: SocketAddr::new(address(8)?, port(4)?),
            peer: SocketAddr::new(address(24)?, port(6)?),
            unacknowledged: u32::from_ne_bytes(*message.get(60..)?.first_chunk()?),
        })
    }

    /// Whether there is still something to be said or to be delivered.
    fn goes_on(&self) -> bool {
        match self.state {
            state::ESTABLISHED | state::CLOSE_WAIT => true,
            // The FIN alone: whether the client ever acknowledges that is all one.
            state::FIN_WAIT1 | state::CLOSING | state::LAST_ACK => self.unacknowledged > 1,
            _ => false,
        }
    }
}

/// What counts of `sockets`.
fn served(sockets: &[Socket], listened: &BTreeSet<u16>, pools: &Pools) -> Connections {
    let open = |socket: &&Socket| socket.protocol == Protocol::Udp && socket.state == state::CLOSE;
    let bound: BTreeSet<u16> = sockets.iter().filter(open).map(|socket| socket.local.port()).collect();
    let client = |socket: &Socket| {
        let replica = match socket.peer.ip() {
            IpAddr::V4(address) => pools.container4.contains(&address),
            IpAddr::V6(address) => pools.container6.contains(&address),
        };
        replica && socket.peer.ip() != socket.local.ip()
    };
    let mut connections = Connections::default();
    for socket in sockets.iter().filter(|socket| socket.goes_on() && client(socket)) {
        let (ports, count) = match socket.protocol {
            Protocol::Tcp => (listened, &mut connections.tcp),
            Protocol::Udp => (&bound, &mut connections.udp),
        };
        if ports.contains(&socket.local.port()) {
            *count = count.saturating_add(1);
        }
    }
    connections
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::allocation::example_pools;

    fn socket(protocol: Protocol, state: u8, local: &str, peer: &str, unacknowledged: u32) -> Socket {
        Socket { protocol, state, local: local.parse().unwrap(), peer: peer.parse().unwrap(), unacknowledged }
    }

    fn tcp(state: u8, peer: &str) -> Socket {
        socket(Protocol::Tcp, state, "10.208.0.5:80", peer, 0)
    }

    fn count(sockets: &[Socket]) -> (u32, u32) {
        let Connections { tcp, udp } = served(sockets, &BTreeSet::from([80]), &example_pools());
        (tcp, udp)
    }

    #[test]
    fn a_connection_counts_while_something_is_to_be_said_or_to_arrive() {
        let replica = "10.208.0.6:40000";
        for (state, counts) in [
            (state::ESTABLISHED, 1),
            (state::CLOSE_WAIT, 1),
            (state::LISTEN, 0),
            (state::CLOSE, 0),
            (state::FIN_WAIT1, 0),
            (state::CLOSING, 0),
            (state::LAST_ACK, 0),
        ] {
            assert_eq!(count(&[tcp(state, replica)]), (counts, 0), "{state}");
        }
        for state in [state::FIN_WAIT1, state::CLOSING, state::LAST_ACK] {
            let with = |unacknowledged| [Socket { unacknowledged, ..tcp(state, replica) }];
            assert_eq!((count(&with(1)), count(&with(2))), ((0, 0), (1, 0)), "{state}");
        }
    }

    #[test]
    fn only_replicas_are_clients_and_only_others() {
        for (peer, counts) in [
            ("10.208.0.6:40000", 1),
            ("10.208.0.5:40000", 0),
            ("10.224.0.9:40000", 0),
            ("192.0.2.1:40000", 0),
            ("127.0.0.1:40000", 0),
            ("[fd53:6b65:7000::6]:40000", 1),
            ("[fd53:6b65:7001::6]:40000", 0),
            ("[::1]:40000", 0),
        ] {
            assert_eq!(count(&[tcp(state::ESTABLISHED, peer)]), (counts, 0), "{peer}");
        }
    }

    #[test]
    fn what_the_replica_began_is_its_own() {
        let to_database = socket(Protocol::Tcp, state::ESTABLISHED, "10.208.0.5:40001", "10.208.0.7:5432", 0);
        assert_eq!(count(&[to_database]), (0, 0));
    }

    #[test]
    fn a_connected_datagram_socket_counts_beside_one_that_serves_its_port() {
        let connected = socket(Protocol::Udp, state::ESTABLISHED, "10.208.0.5:443", "10.208.0.6:40000", 0);
        let open = socket(Protocol::Udp, state::CLOSE, "0.0.0.0:443", "0.0.0.0:0", 0);
        assert_eq!(count(std::slice::from_ref(&connected)), (0, 0));
        assert_eq!(count(&[connected.clone(), open, connected]), (0, 2));
    }

    #[test]
    fn a_message_reads_back() {
        let mut message = [0; 72];
        message[..2].copy_from_slice(&[libc::AF_INET6 as u8, state::CLOSE_WAIT]);
        message[4..8].copy_from_slice(&[0, 80, 0x9c, 0x40]);
        message[8..24].copy_from_slice(&"::ffff:10.208.0.5".parse::<Ipv6Addr>().unwrap().octets());
        message[24..40].copy_from_slice(&"fd53::6".parse::<Ipv6Addr>().unwrap().octets());
        message[60..64].copy_from_slice(&7_u32.to_ne_bytes());
        let read = socket(Protocol::Tcp, state::CLOSE_WAIT, "10.208.0.5:80", "[fd53::6]:40000", 7);
        assert_eq!(Socket::parse(Protocol::Tcp, &message), Some(read));
        assert_eq!(Socket::parse(Protocol::Tcp, &message[..63]), None, "cut off");
    }

    #[test]
    fn a_protocol_that_the_kernel_cannot_list_is_an_error_and_not_nothing() {
        let socket = nlmsg::open(SockProtocol::NetlinkSockDiag).unwrap();
        let list = |protocol| {
            let request = request(libc::AF_INET as u8, protocol, u32::MAX);
            nlmsg::ask(&socket, SOCK_DIAG_BY_FAMILY, true, &request, |_| {})
        };
        list(Protocol::Tcp.number()).unwrap();
        // Reserved (RFC 3692), and no module's.
        assert_eq!(list(253).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}
