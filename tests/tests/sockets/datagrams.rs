//! Datagrams: a flow stays on its backend as long as the set is the same, and answers come from whom they were
//! asked of.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};

use anyhow::Result;
use dataplane_ebpf::abi::{Endpoint, Identity};

use crate::calls::{FAMILIES, How, udp};
use crate::world::{CALLER, Family, NETWORKS, PORT, World};

/// Asks `to`; who answered, and as whom.
fn ask(socket: &UdpSocket, to: SocketAddr) -> Result<(String, SocketAddr)> {
    let mut name = [0; 16];
    socket.send_to(b"?", to)?;
    let (length, from) = socket.recv_from(&mut name)?;
    Ok((String::from_utf8_lossy(&name[..length]).into_owned(), from))
}

#[test]
fn a_flow_without_connection_stays_on_its_backend_until_the_set_changes() -> Result<()> {
    let mut world = World::new()?;
    let replicas = [101, 102, 103, 104];
    world.start_servers(&replicas)?;
    for family in FAMILIES {
        world.serve(1, NETWORKS, &replicas)?;
        let vip = SocketAddr::from((family.vip(1), PORT));
        let socket = world.as_caller(|| Ok(udp(family.unspecified())?))?;
        let first = ask(&socket, vip)?;
        for _ in 0..64 {
            assert_eq!(ask(&socket, vip)?, first, "{family:?}: another backend, or not from the VIP");
        }
        let left: Vec<u8> = replicas.into_iter().filter(|host| host.to_string() != first.0).collect();
        world.serve(1, NETWORKS, &left)?;
        let second = ask(&socket, vip)?;
        assert_ne!(second.0, first.0, "{family:?}: the backend is out of the set");
        for _ in 0..64 {
            assert_eq!(ask(&socket, vip)?, second, "{family:?}");
        }
    }
    Ok(())
}

#[test]
fn a_connected_socket_keeps_its_backend_and_sees_the_vip() -> Result<()> {
    let mut world = World::new()?;
    world.start_servers(&[101, 102])?;
    for family in FAMILIES {
        world.serve(1, NETWORKS, &[101, 102])?;
        let vip = SocketAddr::from((family.vip(1), PORT));
        let socket = world.as_caller(|| Ok(udp(family.unspecified())?))?;
        world.as_caller(|| Ok(socket.connect(vip)?))?;
        let ask = || -> Result<String> {
            let mut name = [0; 16];
            socket.send(b"?")?;
            let (length, from) = socket.recv_from(&mut name)?;
            assert_eq!((from, socket.peer_addr()?), (vip, vip));
            Ok(String::from_utf8_lossy(&name[..length]).into_owned())
        };
        let first = ask()?;
        let other = if first == "101" { 102 } else { 101 };
        world.serve(1, NETWORKS, &[other])?;
        assert_eq!(ask()?, first, "{family:?}: a connection is not moved");
    }
    Ok(())
}

#[test]
fn one_socket_talks_to_four_services_at_once() -> Result<()> {
    let mut world = World::new()?;
    let hosts = [101, 102, 103, 104, 105];
    world.start_servers(&hosts)?;
    for host in hosts {
        world.serve(host, NETWORKS, &[host])?;
    }
    for family in FAMILIES {
        let socket = world.as_caller(|| Ok(udp(family.unspecified())?))?;
        let vips: Vec<SocketAddr> = hosts.iter().map(|host| (family.vip(*host), PORT).into()).collect();
        let exchange = |some: &[SocketAddr]| -> Result<()> {
            for vip in some {
                socket.send_to(b"?", vip)?;
            }
            let mut name = [0; 16];
            let answers = some.iter().map(|_| Ok(socket.recv_from(&mut name)?.1)).collect::<Result<BTreeSet<_>>>()?;
            assert_eq!(answers, some.iter().copied().collect(), "{family:?}");
            Ok(())
        };
        exchange(&vips[..4])?;
        exchange(&vips[1..])?;
        exchange(&vips[..4])?;
    }
    Ok(())
}

#[test]
fn an_address_that_the_program_uses_by_itself_is_not_taken_for_the_vip() -> Result<()> {
    let mut world = World::new()?;
    world.start_servers(&[101])?;
    world.serve(1, NETWORKS, &[101])?;
    for family in FAMILIES {
        let replica = family.replica(101);
        let identity = Identity { env: CALLER.env, service: 1001 };
        let endpoint = Endpoint { networks: NETWORKS, identity, node: 1, ..Endpoint::default() };
        world.maps.endpoints.put(&replica.into(), endpoint)?;
        let socket = world.as_caller(|| Ok(udp(family.unspecified())?))?;
        for host in [family.vip(1), replica, family.vip(1)] {
            assert_eq!(ask(&socket, (host, PORT).into())?.1.ip(), host, "{family:?}");
        }
    }
    Ok(())
}

#[test]
fn threads_that_share_a_socket_never_reach_a_service_that_none_of_them_asked_for() -> Result<()> {
    let mut world = World::new()?;
    let hosts = [101, 102, 103, 104, 105, 106];
    world.start_servers(&hosts)?;
    for host in hosts {
        world.serve(host, NETWORKS, &[host])?;
    }
    // More services than a socket remembers, and only the first three are asked.
    let socket = world.as_caller(|| Ok(udp(Family::V4.unspecified())?))?;
    let answers = std::thread::scope(|scope| {
        for host in &hosts[..3] {
            let socket = &socket;
            scope.spawn(move || {
                for _ in 0..2_000 {
                    let _full = socket.send_to(b"?", (Family::V4.vip(*host), PORT));
                }
            });
        }
        // Some get lost where the servers' queues are full.
        let mut name = [0; 16];
        let answers = (0..500).map(|_| Ok(socket.recv_from(&mut name).map(|(length, _)| name[..length].to_vec())?));
        answers.collect::<Result<BTreeSet<_>>>()
    })?;
    let asked: BTreeSet<Vec<u8>> = hosts[..3].iter().map(|host| host.to_string().into_bytes()).collect();
    assert!(answers.is_subset(&asked), "{answers:?}");
    assert_eq!(world.call(How::Udp, Family::V4, Family::V4.vip(106))?.name, "106");
    Ok(())
}
