//! One replica's network namespace with the socket programs, and another with servers, on a plain veth pair.

use std::fmt::Debug;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dataplane::bpf::{self, BackendAddress, Generations, MapSizes, Maps, Pins, Programs, ServiceVips};
use dataplane_ebpf::abi::{Addr, EgressKey, EgressRule, Identity, Netns, NodeConfig, Pool, action, flags};
use tests::bpffs::Bpffs;
use tests::cgroup::Cgroup;
use tests::netns::Namespace;

/// The port that every server listens on.
pub const PORT: u16 = 7000;
/// The replica that calls.
pub const CALLER: Identity = Identity { env: 7, service: 70 };
/// The networks that it is in.
pub const NETWORKS: u64 = 0b011;
/// Sizes that are quickly made.
pub const SIZES: MapSizes = MapSizes { local: 64, endpoints: 1_024, services: 256, rules: 64, flows: 64 };

pub const CALLER4: Ipv4Addr = Ipv4Addr::new(10, 208, 0, 2);
pub const CALLER6: Ipv6Addr = Ipv6Addr::new(0xfd53, 0x6b65, 0x7000, 0, 0, 0, 0, 2);
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 224, 0, 53);

/// IPv4, IPv6, and IPv4 by an IPv6 socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    V4,
    V6,
    Mapped,
}

pub const FAMILIES: [Family; 3] = [Family::V4, Family::V6, Family::Mapped];

impl Family {
    /// Address `host` of a block: of the VIPs, or of the replicas.
    fn of(self, v4: Ipv4Addr, v6: Ipv6Addr) -> IpAddr {
        match self {
            Self::V4 => v4.into(),
            Self::V6 => v6.into(),
            Self::Mapped => v4.to_ipv6_mapped().into(),
        }
    }

    pub fn vip(self, host: u8) -> IpAddr {
        self.of(Ipv4Addr::new(10, 224, 1, host), Ipv6Addr::new(0xfd53, 0x6b65, 0x7001, 0, 0, 0, 1, host.into()))
    }

    pub fn replica(self, host: u8) -> IpAddr {
        self.of(Ipv4Addr::new(10, 208, 1, host), Ipv6Addr::new(0xfd53, 0x6b65, 0x7000, 0, 0, 0, 1, host.into()))
    }

    pub fn outside(self, host: u8) -> IpAddr {
        self.of(Ipv4Addr::new(11, 0, 0, host), Ipv6Addr::new(0x2a00, 0x5ce9, 0, 0, 0, 0, 0, host.into()))
    }

    pub fn caller(self) -> IpAddr {
        self.of(CALLER4, CALLER6)
    }

    pub fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 | Self::Mapped => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

/// A kind of socket call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    Tcp,
    ConnectedUdp,
    Udp,
}

pub const HOWS: [How; 3] = [How::Tcp, How::ConnectedUdp, How::Udp];

/// Who answered, and who it looked like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub name: String,
    pub peer: SocketAddr,
}

/// Calls `to` and waits for the answer.
pub fn call(how: How, to: SocketAddr, any: IpAddr) -> std::io::Result<Answer> {
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
pub fn udp(any: IpAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(socket)
}

/// Everything that a call needs, and nothing of the rest of the machine.
pub struct World {
    pub maps: Maps,
    pub programs: Programs,
    pub generations: Generations,
    pub caller: Namespace,
    pub servers: Namespace,
    pub cgroup: Cgroup,
    pub pins: Pins,
    pub bpffs: Bpffs,
}

impl World {
    /// Loads and attaches the programs; nothing is in the maps but the node and the caller.
    pub fn new() -> Result<Self> {
        let mut world = Self::unattached()?;
        world.programs.attach_sockets()?;
        world.tell_who_calls(flags::EGRESS)?;
        world.maps.set_node(&node())?;
        world.generations = Generations::adopt(&world.maps, Instant::now())?;
        Ok(world)
    }

    /// As [`Self::new`], with the programs loaded only.
    pub fn unattached() -> Result<Self> {
        let bpffs = Bpffs::new()?;
        let cgroup = Cgroup::new(&bpf::find_cgroup2_root()?)?;
        let pins = Pins::new(&bpffs.path());
        let (programs, maps) = Programs::load_or_adopt(&pins, &SIZES, cgroup.path())?;
        let (caller, servers) = (Namespace::new()?, Namespace::new()?);
        wire(&caller, &servers)?;
        Ok(Self { maps, programs, generations: Generations::default(), caller, servers, cgroup, pins, bpffs })
    }

    /// Writes NETNS for the caller.
    pub fn tell_who_calls(&self, flags: u32) -> Result<()> {
        let value = Netns {
            networks: NETWORKS,
            identity: CALLER,
            address6: CALLER6.into(),
            address4: Addr::from(CALLER4).v4_word(),
            flags,
            seal: 0,
        };
        Ok(self.maps.netns.put(&cookie(&self.caller)?, value)?)
    }

    /// Runs `work` as the caller: in its network namespace, with sockets of its cgroup.
    pub fn as_caller<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.caller.enter(|| {
            self.cgroup.join()?;
            work()
        })
    }

    /// One call of the caller.
    pub fn call(&self, how: How, family: Family, to: IpAddr) -> std::io::Result<Answer> {
        self.as_caller(|| Ok(call(how, (to, PORT).into(), family.unspecified()))).unwrap()
    }

    /// Makes `backends` (replicas by number; those below 100 are on this node) the set of service `host`.
    pub fn serve(&mut self, host: u8, networks: u64, backends: &[u8]) -> Result<bool> {
        self.serve_at(host, networks, backends, Instant::now())
    }

    /// As [`Self::serve`], at a time of one's own.
    pub fn serve_at(&mut self, host: u8, networks: u64, backends: &[u8], now: Instant) -> Result<bool> {
        let backends: Vec<_> = backends.iter().map(|host| backend(*host)).collect();
        Ok(self.generations.switch(&self.maps, &service(host, networks), &backends, now)?)
    }

    /// Starts a TCP and a UDP server at each replica's addresses; each answers with its number.
    pub fn start_servers(&self, replicas: &[u8]) -> Result<()> {
        for host in replicas {
            for family in [Family::V4, Family::V6] {
                self.start_server(family.replica(*host), &host.to_string())?;
            }
        }
        Ok(())
    }

    /// Starts a TCP and a UDP server at `address` that answer with `name`.
    pub fn start_server(&self, address: IpAddr, name: &str) -> Result<()> {
        add_address(&self.servers, address)?;
        self.servers.enter(|| start(address, name.to_owned()))
    }
}

pub fn service(host: u8, networks: u64) -> ServiceVips {
    let vips = vec![Family::V4.vip(host).into(), Family::V6.vip(host).into()];
    ServiceVips { env: CALLER.env, service: 1000 + u32::from(host), vips, networks, flags: 0 }
}

pub fn backend(host: u8) -> BackendAddress {
    let local = host < 100;
    let (address4, address6) = (Family::V4.replica(host).into(), Family::V6.replica(host).into());
    BackendAddress { address4, address6, node: if local { 1 } else { 2 }, local }
}

pub fn node() -> NodeConfig {
    NodeConfig {
        container_pools: [
            Pool::new(Ipv4Addr::new(10, 208, 0, 0).into(), 12),
            Pool::new(Ipv6Addr::new(0xfd53, 0x6b65, 0x7000, 0, 0, 0, 0, 0).into(), 48),
        ],
        vip_pools: [
            Pool::new(Ipv4Addr::new(10, 224, 0, 0).into(), 16),
            Pool::new(Ipv6Addr::new(0xfd53, 0x6b65, 0x7001, 0, 0, 0, 0, 0).into(), 64),
        ],
        dns: DNS.into(),
        mark_mask: 0x0f00_0000,
        host_mark: 0x0600_0000,
        pass_mark: 0x0500_0000,
        node: 1,
        ..NodeConfig::default()
    }
}

/// Everything may be reached but what is in `denied`.
pub fn egress(denied: &[(EgressKey, u32)]) -> Vec<(EgressKey, EgressRule)> {
    let everything = (EgressKey { prefix_len: 0, addr: Addr::NONE }, EgressRule { action: action::ALLOW, rule: 1 });
    let denied = denied.iter().map(|(key, rule)| (*key, EgressRule { action: action::DENY, rule: *rule }));
    std::iter::once(everything).chain(denied).collect()
}

/// The cookie that the socket programs know a namespace by.
pub fn cookie(namespace: &Namespace) -> Result<u64> {
    /// `SO_NETNS_COOKIE`, Linux 5.14.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    namespace.enter(|| {
        let socket = UdpSocket::bind("[::]:0")?;
        let (mut cookie, mut length) = (0_u64, size_of::<u64>() as libc::socklen_t);
        let to = (&raw mut cookie).cast();
        // SAFETY: `cookie` is as long as `length` says.
        let done = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, to, &mut length) };
        ensure!(done == 0, "SO_NETNS_COOKIE: {}", std::io::Error::last_os_error());
        Ok(cookie)
    })
}

/// A veth pair, and routes for everything through it.
fn wire(caller: &Namespace, servers: &Namespace) -> Result<()> {
    caller.run(&format!("ip link add eth0 type veth peer name eth0 netns {}", servers.path().display()))?;
    for (namespace, v4, v6) in
        [(caller, "10.208.0.2", "fd53:6b65:7000::2"), (servers, "10.208.0.1", "fd53:6b65:7000::1")]
    {
        namespace.run("ip link set lo up")?;
        namespace.run("ip link set eth0 addrgenmode none up")?;
        namespace.run(&format!("ip addr add {v4}/12 dev eth0"))?;
        namespace.run(&format!("ip addr add {v6}/48 dev eth0 nodad"))?;
        namespace.run("ip route add default dev eth0")?;
        namespace.run("ip -6 route add default dev eth0")?;
    }
    Ok(())
}

/// Gives the servers one more address.
pub fn add_address(servers: &Namespace, address: IpAddr) -> Result<()> {
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
