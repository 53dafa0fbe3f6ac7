//! The socket programs, by real calls: a VIP is its backend and looks like itself; what is not allowed fails at
//! once, with a counted reason.

#[path = "sockets/calls.rs"]
mod calls;
#[path = "sockets/datagrams.rs"]
mod datagrams;
#[path = "sockets/refusals.rs"]
mod refusals;
#[path = "sockets/streams.rs"]
mod streams;
#[path = "sockets/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use calls::{FAMILIES, HOWS, How, udp};
use dataplane::bpf;
use world::{CALLER, DNS, Family, NETWORKS, PORT, World};

#[test]
fn a_vip_is_reached_and_looks_like_itself() -> Result<()> {
    let mut world = World::new()?;
    world.start_servers(&[101, 102])?;
    world.serve(1, NETWORKS, &[101, 102])?;
    for family in FAMILIES {
        for how in HOWS {
            let mut names = BTreeSet::new();
            for _ in 0..24 {
                let answer = world.call(how, family, family.vip(1))?;
                assert_eq!(answer.peer, SocketAddr::from((family.vip(1), PORT)), "{how:?} {family:?}");
                names.insert(answer.name);
            }
            let both = BTreeSet::from(["101".to_owned(), "102".to_owned()]);
            assert_eq!(names, both, "{how:?} {family:?}: every backend has its turn");
        }
    }
    assert!(bpf::drops(&world.maps)?.is_empty());
    let connects = bpf::counters(&world.maps)?.into_iter().find(|(identity, _)| *identity == CALLER).unwrap().1;
    assert_eq!(connects.connects, 3 * 3 * 24, "every connection and datagram flow is counted");
    Ok(())
}

#[test]
fn backends_of_this_node_come_first() -> Result<()> {
    let mut world = World::new()?;
    world.start_servers(&[1, 102])?;
    world.serve(1, NETWORKS, &[102, 1])?;
    for _ in 0..16 {
        assert_eq!(world.call(How::Tcp, Family::V4, Family::V4.vip(1))?.name, "1");
    }
    world.serve(1, NETWORKS, &[102])?;
    assert_eq!(world.call(How::Tcp, Family::V4, Family::V4.vip(1))?.name, "102", "others when none is left");
    Ok(())
}

#[test]
fn what_never_leaves_the_namespace_and_the_resolver_pass() -> Result<()> {
    let world = World::new()?;
    calls::add_address(&world.servers, DNS.into())?;
    let reachable = |to: IpAddr, any: IpAddr| {
        world.as_caller(move || {
            // Nobody listens: the answer is the other machine's, not the program's.
            Ok(std::net::TcpStream::connect((to, PORT)).err().and_then(|error| error.raw_os_error())
                == Some(libc::ECONNREFUSED)
                && udp(any)?.send_to(b"?", (to, PORT)).is_ok())
        })
    };
    for to in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"] {
        let to: IpAddr = to.parse()?;
        let any = if to.is_ipv4() { Family::V4 } else { Family::V6 };
        assert!(reachable(to, any.unspecified())?, "{to}");
    }
    for family in FAMILIES {
        assert!(reachable(family.caller(), family.unspecified())?, "{family:?}");
    }
    assert!(reachable(DNS.into(), Family::V4.unspecified())?);
    assert!(reachable(DNS.to_ipv6_mapped().into(), Family::Mapped.unspecified())?);
    assert!(bpf::drops(&world.maps)?.is_empty());
    Ok(())
}

#[test]
fn the_sockets_of_a_namespace_that_is_no_replicas_pass_unchanged() -> Result<()> {
    let mut world = World::new()?;
    world.start_servers(&[1])?;
    world.serve(1, NETWORKS, &[1])?;
    world.maps.netns.delete(&world.caller.cookie()?)?;
    for family in [Family::V4, Family::V6] {
        world.start_server(family.vip(1), "the VIP itself")?;
    }
    for family in FAMILIES {
        for how in HOWS {
            assert_eq!(world.call(how, family, family.vip(1))?.name, "the VIP itself", "{how:?} {family:?}");
            assert_eq!(world.call(how, family, family.replica(1))?.name, "1", "{how:?} {family:?}");
        }
    }
    assert!(bpf::drops(&world.maps)?.is_empty());
    Ok(())
}

#[test]
fn a_ping_socket_to_a_vip_passes_unchanged() -> Result<()> {
    let mut world = World::new()?;
    world.serve(1, NETWORKS, &[1])?;
    world.caller.enter(|| Ok(std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0")?))?;
    let peer = world.as_caller(|| {
        use nix::sys::socket::{
            AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, connect, getpeername, socket,
        };
        use std::os::fd::AsRawFd as _;
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), SockProtocol::Icmp)?;
        let IpAddr::V4(vip) = Family::V4.vip(1) else { unreachable!() };
        connect(socket.as_raw_fd(), &SockaddrIn::from(std::net::SocketAddrV4::new(vip, PORT)))?;
        Ok(getpeername::<SockaddrIn>(socket.as_raw_fd())?.ip())
    })?;
    assert_eq!(IpAddr::from(peer), Family::V4.vip(1));
    assert!(bpf::counters(&world.maps)?.is_empty(), "it was not sent to a backend either");
    Ok(())
}
