//! Calls, and servers that answer them.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Result;
use dataplane::bpf::{BackendAddress, Generations};
use dataplane_ebpf::abi::{Addr, EgressKey, EgressRule, action, flags};
use tests::netns::Namespace;

use crate::world::{self, CALLER4, CALLER6, Family, PORT, World};

pub(crate) const FAMILIES: [Family; 3] = [Family::V4, Family::V6, Family::Mapped];

impl Family {
    pub(crate) fn replica(self, host: u8) -> IpAddr {
        self.of(Ipv4Addr::new(10, 208, 1, host), Ipv6Addr::new(0xfd53, 0x6b65, 0x7000, 0, 0, 0, 1, host.into()))
    }

    pub(crate) fn outside(self, host: u8) -> IpAddr {
        self.of(Ipv4Addr::new(11, 0, 0, host), Ipv6Addr::new(0x2a00, 0x5ce9, 0, 0, 0, 0, 0, host.into()))
    }

    pub(crate) fn caller(self) -> IpAddr {
        self.of(CALLER4, CALLER6)
    }

    pub(crate) fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 | Self::Mapped => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

/// A kind of socket call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    Tcp,
    ConnectedUdp,
    Udp,
}

pub(crate) const HOWS: [How; 3] = [How::Tcp, How::ConnectedUdp, How::Udp];

/// Who answered, and who it looked like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(crate) name: String,
    pub(crate) peer: SocketAddr,
}

/// Calls `to` and waits for the answer.
pub(crate) fn call(how: How, to: SocketAddr, any: IpAddr) -> io::Result<Answer> {
    let mut name = [0; 64];
    let (length, peer) = match how {
        How::Tcp => {
            let mut stream = TcpStream::connect(to)?;
            (stream.read(&mut name)?, stream.peer_addr()?)
        }
        How::ConnectedUdp => {
            let socket = udp(any)?;
            socket.connect(to)?;
            socket.send(b"?")?;
            let (length, source) = socket.recv_from(&mut name)?;
            assert_eq!(socket.peer_addr()?, source, "getpeername and recvmsg tell the same");
            (length, source)
        }
        How::Udp => {
            let socket = udp(any)?;
            socket.send_to(b"?", to)?;
            socket.recv_from(&mut name)?
        }
    };
    Ok(Answer { name: String::from_utf8_lossy(&name[..length]).into_owned(), peer })
}

/// A UDP socket that does not wait for ever.
pub(crate) fn udp(any: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(socket)
}

impl World {
    /// Loads and attaches the programs; nothing is in the maps but the node and the caller.
    pub(crate) fn new() -> Result<Self> {
        let mut world = World::unattached()?;
        world.programs.attach_sockets()?;
        world.tell_who_calls(flags::EGRESS)?;
        world.maps.set_node(&world::node())?;
        world.generations = Generations::adopt(&world.maps, Instant::now())?;
        Ok(world)
    }

    /// One call of the caller.
    pub(crate) fn call(&self, how: How, family: Family, to: IpAddr) -> io::Result<Answer> {
        let made = self.as_caller(|| Ok(call(how, (to, PORT).into(), family.unspecified())));
        made.map_err(io::Error::other)?
    }

    /// Makes `backends` (replicas by number; those below 100 are on this node) the set of service `host`.
    pub(crate) fn serve(&mut self, host: u8, networks: u64, backends: &[u8]) -> Result<bool> {
        self.serve_at(host, networks, backends, Instant::now())
    }

    /// As [`Self::serve`], at a time of one's own.
    pub(crate) fn serve_at(&mut self, host: u8, networks: u64, backends: &[u8], now: Instant) -> Result<bool> {
        let backends: Vec<_> = backends.iter().map(|host| backend(*host)).collect();
        Ok(self.generations.switch(&self.maps, &world::service(host, networks), &backends, now)?)
    }

    /// Starts a TCP and a UDP server at each replica's addresses; each answers with its number.
    pub(crate) fn start_servers(&self, replicas: &[u8]) -> Result<()> {
        for host in replicas {
            for family in [Family::V4, Family::V6] {
                self.start_server(family.replica(*host), &host.to_string())?;
            }
        }
        Ok(())
    }

    /// Starts a TCP and a UDP server at `address` that answer with `name`.
    pub(crate) fn start_server(&self, address: IpAddr, name: &str) -> Result<()> {
        add_address(&self.servers, address)?;
        self.servers.enter(|| start(address, name.to_owned()))
    }
}

pub(crate) fn backend(host: u8) -> BackendAddress {
    let local = host < 100;
    let (address4, address6) = (Family::V4.replica(host).into(), Family::V6.replica(host).into());
    BackendAddress { address4, address6, node: if local { 1 } else { 2 }, local }
}

/// Everything may be reached but what is in `denied`.
pub(crate) fn egress(denied: &[(EgressKey, u32)]) -> Vec<(EgressKey, EgressRule)> {
    let everything = (EgressKey { prefix_len: 0, addr: Addr::NONE }, EgressRule { action: action::ALLOW, rule: 1 });
    let denied = denied.iter().map(|(key, rule)| (*key, EgressRule { action: action::DENY, rule: *rule }));
    std::iter::once(everything).chain(denied).collect()
}

/// Gives the servers one more address.
pub(crate) fn add_address(servers: &Namespace, address: IpAddr) -> Result<()> {
    let option = if address.is_ipv6() { " nodad" } else { "" };
    servers.run(&format!("ip addr add {address} dev eth0{option}")).map(drop)
}

/// Servers that answer with `name` as long as this process lives.
fn start(address: IpAddr, name: String) -> Result<()> {
    let listener = TcpListener::bind((address, PORT))?;
    let socket = UdpSocket::bind((address, PORT))?;
    let greeting = name.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _gone = stream.write_all(greeting.as_bytes());
        }
    });
    std::thread::spawn(move || {
        let mut question = [0; 16];
        while let Ok((_, from)) = socket.recv_from(&mut question) {
            let _gone = socket.send_to(name.as_bytes(), from);
        }
    });
    Ok(())
}
