//! What a stream socket remembers of its VIP, and for how long: its mark, unless the program has one of its own there.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;

use anyhow::Result;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getpeername, getsockopt, setsockopt, socket, sockopt,
};

use crate::calls::{FAMILIES, egress};
use crate::world::{Family, NETWORKS, PORT, World, service};

/// Of a program with marks of its own.
const OWN: u32 = 0x77;

/// A world with service 1 at replica 1, and a server outside.
fn world() -> Result<World> {
    let mut world = World::new()?;
    world.start_servers(&[1])?;
    world.serve(1, NETWORKS, &[1])?;
    world.maps.set_egress(&egress(&[]))?;
    for family in [Family::V4, Family::V6] {
        world.start_server(family.outside(1), "outside")?;
    }
    Ok(world)
}

/// The last 32 bits of a VIP.
fn mark(vip: IpAddr) -> u32 {
    let octets = match vip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    octets[octets.len() - 4..].iter().fold(0, |word, octet| word << 8 | u32::from(*octet))
}

#[test]
fn the_mark_is_the_vip() -> Result<()> {
    let world = world()?;
    for family in FAMILIES {
        let vip = family.vip(1);
        let (peer, found) = world.as_caller(|| {
            let stream = TcpStream::connect((vip, PORT))?;
            Ok((stream.peer_addr()?, getsockopt(&stream, sockopt::Mark)?))
        })?;
        assert_eq!((peer, found), ((vip, PORT).into(), mark(vip)), "{family:?}");
    }
    Ok(())
}

#[test]
fn a_mark_of_the_programs_own_stays() -> Result<()> {
    let world = world()?;
    for family in FAMILIES {
        let vip = family.vip(1);
        let (peer, found) = world.as_caller(|| {
            let stream = unconnected(vip)?;
            setsockopt(&stream, sockopt::Mark, &OWN)?;
            connect(stream.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((vip, PORT))))?;
            Ok((peer(&stream)?, getsockopt(&stream, sockopt::Mark)?))
        })?;
        assert_eq!((peer, found), (vip, OWN), "{family:?}");
    }
    Ok(())
}

#[test]
fn a_socket_that_goes_elsewhere_forgets_its_vip() -> Result<()> {
    let world = world()?;
    for family in FAMILIES {
        let (vip, outside) = (family.vip(1), family.outside(1));
        let (peer, found) = world.as_caller(|| {
            let stream = unconnected(vip)?;
            connect(stream.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((vip, PORT))))?;
            disconnect(&stream)?;
            connect(stream.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((outside, PORT))))?;
            Ok((peer(&stream)?, getsockopt(&stream, sockopt::Mark)?))
        })?;
        assert_eq!((peer, found), (outside, 0), "{family:?}");
    }
    Ok(())
}

#[test]
fn a_mark_that_is_made_up_names_no_service_of_another_environment() -> Result<()> {
    let mut world = world()?;
    let foreign = dataplane::bpf::ServiceVips { env: 8, ..service(2, NETWORKS) };
    world.generations.switch(&world.maps, &foreign, &[crate::calls::backend(1)], std::time::Instant::now())?;
    for family in FAMILIES {
        let outside = family.outside(1);
        let peers = world.as_caller(|| {
            let stream = TcpStream::connect((outside, PORT))?;
            [family.vip(2), family.vip(3)]
                .iter()
                .map(|vip| {
                    setsockopt(&stream, sockopt::Mark, &mark(*vip))?;
                    Ok(stream.peer_addr()?.ip())
                })
                .collect::<Result<Vec<_>>>()
        })?;
        assert_eq!(peers, [outside; 2], "{family:?}");
    }
    Ok(())
}

fn unconnected(to: IpAddr) -> Result<std::os::fd::OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    Ok(socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?)
}

fn peer(socket: &impl std::os::fd::AsRawFd) -> Result<IpAddr> {
    let peer: SockaddrStorage = getpeername(socket.as_raw_fd())?;
    let v4 = peer.as_sockaddr_in().map(|peer| peer.ip().into());
    v4.or_else(|| peer.as_sockaddr_in6().map(|peer| peer.ip().into()))
        .ok_or_else(|| anyhow::anyhow!("{peer} is no IP address"))
}

/// Takes the connection off a socket (connect(2), `AF_UNSPEC`).
fn disconnect(socket: &impl std::os::fd::AsRawFd) -> io::Result<()> {
    // SAFETY: plain integers, all zero is a valid value.
    let mut nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
    nowhere.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
    // SAFETY: the kernel reads the address, whose size is given.
    let done = unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, size_of_val(&nowhere) as u32) };
    nix::errno::Errno::result(done)?;
    Ok(())
}
