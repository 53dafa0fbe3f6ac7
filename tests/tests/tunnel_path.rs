//! The way to another node and back through a tunnel, between real network namespaces: what reaches whom, and what the
//! sender of too much is told. The test itself is the tunnel.

#[path = "packets/attached.rs"]
mod attached;
#[path = "packets/calls.rs"]
mod calls;
#[path = "packets/octets.rs"]
mod octets;
#[path = "packets/too_big.rs"]
mod too_big;
#[path = "packets/world.rs"]
mod world;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use attached::{Attached, addresses, with_and_without_offload};
use calls::{pings, tcp, udp};
use dataplane::bpf;
use dataplane_ebpf::abi::{Identity, Node, Reason};
use tests::netns::Namespace;
use tests::raw::{self, Wire, protocol};
use tests::tun::Tun;
use world::{
    A, ASIDE4, B, C, D, DNS, FOREIGN, HOST4, LOST, NOWHERE4, OUTSIDE4, OUTSIDE6, REMOTE, Replica, TUNNEL, TUNNEL_MTU,
    VIP4,
};

/// Long enough for a packet on this machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a thread looks whether it is to end.
const TICK: Duration = Duration::from_millis(50);

/// The other node, as far as it matters here: a plain host with the addresses of [`REMOTE`] at the end of the tunnel.
struct Far {
    namespace: Namespace,
    tunnel: Tun,
}

impl Far {
    /// With an MTU, in octets, that its sockets believe in.
    fn new(mtu: u32) -> Result<Self> {
        let namespace = Namespace::new()?;
        let tunnel = namespace.enter(|| Tun::new("tun1", TUNNEL + 1, mtu))?;
        for line in [
            "ip link set lo up",
            "ip link set tun1 addrgenmode none",
            &format!("ip addr add {}/32 dev tun1", REMOTE.v4()),
            &format!("ip addr add {}/128 dev tun1 nodad", REMOTE.v6()),
            "ip route add default dev tun1",
            "ip -6 route add default dev tun1",
        ] {
            namespace.run(line)?;
        }
        Ok(Self { namespace, tunnel })
    }

    /// Carries packets both ways while `work` goes on; returns the octets of the largest one each way, out and in.
    fn joined(&self, near: &Tun, work: impl FnOnce() -> Result<()>) -> Result<[usize; 2]> {
        let (over, largest) = (AtomicBool::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]);
        let carry = |from: &Tun, to: &Tun, largest: &AtomicUsize| -> std::io::Result<()> {
            while !over.load(Ordering::Relaxed) {
                if let Some(octets) = from.pass_on(to, TICK)? {
                    largest.fetch_max(octets, Ordering::Relaxed);
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let ways = [
                scope.spawn(|| carry(near, &self.tunnel, &largest[0])),
                scope.spawn(|| carry(&self.tunnel, near, &largest[1])),
            ];
            let done = work();
            over.store(true, Ordering::Relaxed);
            for way in ways {
                way.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            done
        })?;
        Ok(largest.map(AtomicUsize::into_inner))
    }
}

/// All calls between a replica of this node and the one of the other, both ways and of both families.
fn everything_passes(world: &Attached, far: &Far, what: &str) -> Result<()> {
    let here = world.container(&A);
    for (from, to, [v4, v6]) in [(here, &far.namespace, addresses(&REMOTE)), (&far.namespace, here, addresses(&A))] {
        for address in [v4, v6] {
            ensure!(tcp(from, to, address)?, "TCP → {address}, {what}");
            ensure!(udp(from, to, address)?, "UDP → {address}, {what}");
            ensure!(pings(from, address)?, "ping → {address}, {what}");
        }
    }
    Ok(())
}

/// A packet between addresses of one family.
fn ip(source: IpAddr, destination: IpAddr, kind: u8, payload: Vec<u8>) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => raw::Ipv4::new(source, destination, kind, payload).bytes(),
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            raw::Ipv6 { source, destination, next_header: kind, payload }.bytes()
        }
        _ => unreachable!("two families in one packet"),
    }
}

/// A UDP packet to a port that says which one it is.
fn datagram(source: IpAddr, destination: IpAddr, port: u16, payload: &[u8]) -> Vec<u8> {
    ip(source, destination, protocol::UDP, raw::udp(source, destination, (1_000, port), payload))
}

/// What a replica's device gets up to and with the last of `packets`, which come out of the tunnel one after another.
fn comes_out(world: &Attached, replica: &Replica, packets: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let last = packets.last().context("nothing to send")?;
    world.container(replica).enter(|| {
        let wire = Wire::open("eth0")?;
        packets.iter().try_for_each(|packet| world.tunnel.send(packet))?;
        Ok(wire.arrivals(PATIENCE, |frame| frame.get(14..) == Some(last.as_slice()))?)
    })
}

/// What went into the tunnel for an address, without what the host itself has to say there.
fn goes_in(world: &Attached, address: IpAddr, patience: Duration) -> Result<Option<Vec<u8>>> {
    while let Some(packet) = world.tunnel.receive(patience)? {
        let destination: &[u8] = if packet[0] >> 4 == 4 { &packet[16..20] } else { &packet[24..40] };
        let is_it = match address {
            IpAddr::V4(address) => destination == address.octets(),
            IpAddr::V6(address) => destination == address.octets(),
        };
        if is_it {
            return Ok(Some(packet));
        }
    }
    Ok(None)
}

#[test]
fn replicas_of_two_nodes_talk_if_they_share_a_network() -> Result<()> {
    let (world, far) = (Attached::new()?, Far::new(TUNNEL_MTU)?);
    with_and_without_offload(&world, |offload| {
        let [out, _] = far.joined(&world.tunnel, || everything_passes(&world, &far, &format!("offload {offload}")))?;
        ensure!(out <= TUNNEL_MTU as usize, "{out} octets at once");
        Ok(())
    })?;
    let drops = bpf::drops(&world.maps)?;
    let of_the_link = [Some(Reason::MulticastReport), Some(Reason::NeighborDiscovery)];
    assert!(drops.iter().all(|line| of_the_link.contains(&line.reason())), "{drops:?}");
    assert!(world.maps.flows.entries()?.is_empty(), "traffic inside an environment leaves no state");

    far.joined(&world.tunnel, || {
        for address in addresses(&REMOTE) {
            ensure!(!tcp(world.container(&C), &far.namespace, address)?, "C shares no network with {address}");
            ensure!(!tcp(world.container(&D), &far.namespace, address)?, "D is of another environment");
        }
        for address in [addresses(&C), addresses(&D)].concat() {
            ensure!(!pings(&far.namespace, address)?, "{address} is reached");
        }
        Ok(())
    })?;
    assert!(world.dropped(&C, Reason::NoSharedNetwork)? >= 2 && world.dropped(&D, Reason::OtherEnvironment)? >= 2);
    assert!(world.dropped(&REMOTE, Reason::NoSharedNetwork)? >= 2, "of what comes out of the tunnel");
    assert!(world.dropped(&REMOTE, Reason::OtherEnvironment)? >= 2, "of what comes out of the tunnel");
    Ok(())
}

#[test]
fn large_pieces_of_a_stream_go_through_whole() -> Result<()> {
    let (world, far) = (Attached::new()?, Far::new(TUNNEL_MTU)?);
    world.tunnel.offload()?;
    far.tunnel.offload()?;
    let largest = far.joined(&world.tunnel, || everything_passes(&world, &far, "many segments at a time"))?;
    assert!(largest.iter().all(|octets| *octets > TUNNEL_MTU as usize), "{largest:?} octets at most");
    assert_eq!(world.dropped(&A, Reason::TooBig)?, 0, "each segment fits");
    Ok(())
}

#[test]
fn a_stream_whose_segments_do_not_fit_is_cut_smaller() -> Result<()> {
    // The other side offers segments for an MTU of 1,500, which A takes it at its word for.
    for offload in [false, true] {
        let (world, far) = (Attached::new()?, Far::new(1_500)?);
        if offload {
            world.tunnel.offload()?;
            far.tunnel.offload()?;
        }
        let [out, _] = far.joined(&world.tunnel, || everything_passes(&world, &far, "too large at first"))?;
        assert!(offload || out <= TUNNEL_MTU as usize, "{out} octets at once");
        assert!(world.dropped(&A, Reason::TooBig)? >= 2, "once for each family");
    }
    Ok(())
}

#[test]
fn the_sender_of_too_much_is_told_in_due_form() -> Result<()> {
    let world = Attached::new()?;
    with_and_without_offload(&world, |offload| {
        for (own, far) in addresses(&A).into_iter().zip(addresses(&REMOTE)) {
            let headers = if own.is_ipv4() { 28 } else { 48 };
            let frame = |octets: usize| {
                let packet = datagram(own, far, 7_000, &vec![7; octets - headers]);
                raw::Ethernet::ip(A.mac(), A.host_mac(), packet).bytes()
            };
            world.container(&A).enter(|| {
                let (wire, limit) = (Wire::open("eth0")?, TUNNEL_MTU as usize);
                wire.send(&frame(limit))?;
                let fitting = goes_in(&world, far, PATIENCE)?.context("what fits does not go through")?;
                ensure!(fitting == frame(limit)[14..], "the packet is changed on its way");
                wire.send(&frame(limit + 1))?;
                let told = wire.arrivals(PATIENCE, |frame| frame.len() >= 14 + 576)?;
                too_big::check_too_big(&frame(limit + 1), &told[told.len() - 1], TUNNEL_MTU)
                    .with_context(|| format!("{own}, offload {offload}"))
            })?;
        }
        Ok(())
    })?;
    assert_eq!(world.dropped(&A, Reason::TooBig)?, 4);
    Ok(())
}

/// Sends datagrams to an address until the pieces of one go through the tunnel; gives the octets of each.
fn pieces(world: &Attached, replica: &Replica, to: IpAddr, discover: libc::c_int) -> Result<Vec<usize>> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = world.container(replica).enter(|| Ok(UdpSocket::bind(any)?))?;
    let (level, name) = if to.is_ipv4() {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
    };
    let length = size_of_val(&discover) as libc::socklen_t;
    // SAFETY: `discover` is as long as `length` says.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const discover).cast(), length) };
    ensure!(set == 0, "the MTU discovery of a socket: {}", std::io::Error::last_os_error());
    socket.connect((to, 7_000))?;
    let before = world.dropped(replica, Reason::TooBig)?;
    let mut pieces = Vec::new();
    for _ in 0..20 {
        match socket.send(&[7; 1_440]) {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => continue,
            sent => ensure!(sent? == 1_440),
        }
        while let Some(packet) = goes_in(world, to, TICK)? {
            pieces.push(packet.len());
        }
        if !pieces.is_empty() {
            ensure!(world.dropped(replica, Reason::TooBig)? == before + 1, "one word is enough");
            return Ok(pieces);
        }
    }
    anyhow::bail!("nothing goes through to {to}")
}

#[test]
fn sockets_send_smaller_packets_from_then_on() -> Result<()> {
    let world = Attached::new()?;
    // A's kernel looks at the checksums of what it is told, B's believes them.
    world.container(&A).run("ethtool -K eth0 tx off")?;
    for to in addresses(&REMOTE) {
        let found = pieces(&world, &A, to, libc::IP_PMTUDISC_WANT)?;
        assert!(found.len() == 2 && found.iter().all(|octets| *octets <= TUNNEL_MTU as usize), "{to}: {found:?}");
    }
    // A sender that lets its packets be fragmented learns it, too.
    let to = REMOTE.v4().into();
    let found = pieces(&world, &B, to, libc::IP_PMTUDISC_DONT)?;
    assert!(found.len() == 2 && found.iter().all(|octets| *octets <= TUNNEL_MTU as usize), "{to}: {found:?}");
    Ok(())
}

#[test]
fn nothing_but_what_replicas_send_replicas_comes_out() -> Result<()> {
    let world = Attached::new()?;
    let host = world.host.enter(|| Ok(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 7_000))?))?;
    for v6 in [0, 1] {
        let of = |replica: &Replica| addresses(replica)[v6];
        let nobody: IpAddr = ["10.208.77.77".parse()?, "fd53:6b65:7000::77".parse()?][v6];
        let at_host: IpAddr = [HOST4.into(), "2a00:5ce9::1".parse()?][v6];
        let cases: [(&str, IpAddr, IpAddr, Identity, Reason); 9] = [
            ("of nobody", nobody, of(&A), Identity::WORLD, Reason::UnknownSender),
            ("of the host", at_host, of(&A), Identity::WORLD, Reason::UnknownSender),
            ("of the receiver", of(&A), of(&A), Identity::WORLD, Reason::SpoofedAddress),
            ("of a neighbour here", of(&B), of(&A), Identity::WORLD, Reason::SpoofedAddress),
            ("of another environment", of(&FOREIGN), of(&A), FOREIGN.identity, Reason::OtherEnvironment),
            ("to another network", of(&REMOTE), of(&C), REMOTE.identity, Reason::NoSharedNetwork),
            ("to nobody", of(&REMOTE), nobody, REMOTE.identity, Reason::UnknownAddress),
            ("to the host", of(&REMOTE), at_host, REMOTE.identity, Reason::UnknownAddress),
            ("to a third node", of(&REMOTE), of(&LOST), REMOTE.identity, Reason::NotHere),
        ];
        for (what, source, destination, identity, reason) in cases {
            let count = || {
                let lines = bpf::drops(&world.maps)?;
                let line = lines.iter().find(|line| line.identity == identity && line.reason() == Some(reason));
                Ok::<_, anyhow::Error>(line.map_or(0, |line| line.packets))
            };
            let before = count()?;
            let marker = datagram(of(&REMOTE), of(&A), 7_001, what.as_bytes());
            let arrivals = comes_out(&world, &A, &[datagram(source, destination, 7_000, b"forged"), marker.clone()])?;
            let expected = raw::Ethernet::ip(A.host_mac(), A.mac(), marker).bytes();
            assert_eq!(arrivals, [expected], "{what}");
            assert_eq!(count()?, before + 1, "{what}: {reason}");
        }
    }
    // What this node has to offer its own replicas is not for those of others.
    for to in [DNS.into(), VIP4.into(), OUTSIDE4.into(), ASIDE4.into(), NOWHERE4.into(), IpAddr::from(OUTSIDE6)] {
        let before = world.dropped(&REMOTE, Reason::UnknownAddress)?;
        let [v4, v6] = addresses(&REMOTE);
        let packet = datagram(if to.is_ipv4() { v4 } else { v6 }, to, 7_000, b"forged");
        comes_out(&world, &A, &[packet, datagram(v4, A.v4().into(), 7_001, to.to_string().as_bytes())])?;
        assert_eq!(world.dropped(&REMOTE, Reason::UnknownAddress)?, before + 1, "{to}");
    }
    host.set_nonblocking(true)?;
    let got = host.recv(&mut [0; 16]).map_err(|error| error.kind());
    assert_eq!(got, Err(ErrorKind::WouldBlock), "the host is reached through the tunnel");
    let received = bpf::counters(&world.maps)?.into_iter().find(|(identity, _)| *identity == A.identity);
    assert_eq!(received.map(|(_, counter)| counter.received_packets), Some(24), "what A got is counted");
    Ok(())
}

#[test]
fn without_tunnel_or_program_nothing_passes() -> Result<()> {
    let world = Attached::new()?;
    let (a, far) = (IpAddr::from(A.v4()), IpAddr::from(REMOTE.v4()));
    let send = |text: &[u8]| {
        let frame = raw::Ethernet::ip(A.mac(), A.host_mac(), datagram(a, far, 7_000, text)).bytes();
        world.container(&A).enter(|| Ok(Wire::open("eth0")?.send(&frame)?))
    };
    let node = world::entries().nodes[0].0;
    world.maps.nodes.put(&node, Node { ifindex: 0, mtu: TUNNEL_MTU, seal: 0 })?;
    send(b"while it is down")?;
    world.maps.nodes.delete(&node)?;
    send(b"while it is unknown")?;
    world.maps.nodes.put(&node, Node { ifindex: TUNNEL, mtu: TUNNEL_MTU, seal: 0 })?;
    send(b"while it is up")?;
    let packet = goes_in(&world, far, PATIENCE)?.context("the tunnel is up again")?;
    assert!(packet.ends_with(b"while it is up"), "{packet:?}");
    assert_eq!(world.dropped(&A, Reason::NoTunnel)?, 2);

    world.host.enter(|| Ok(world.programs.detach_tunnel(TUNNEL)?))?;
    world.tunnel.send(&datagram(far, a, 7_000, b"without the program"))?;
    world.host.enter(|| Ok(world.programs.attach_tunnel(TUNNEL)?))?;
    let marker = datagram(far, a, 7_001, b"with it");
    let arrivals = comes_out(&world, &A, std::slice::from_ref(&marker))?;
    assert_eq!(arrivals, [raw::Ethernet::ip(A.host_mac(), A.mac(), marker).bytes()]);
    Ok(())
}
