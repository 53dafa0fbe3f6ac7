//! What is not allowed fails at once, with the right errno and a counted reason.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use dataplane::bpf;
use dataplane_ebpf::abi::{EgressKey, Endpoint, Grant, GrantKey, Identity, NodeConfig, Reason, action};

use crate::calls::{self, FAMILIES, HOWS, How};
use crate::world::{CALLER, Family, NETWORKS, PORT, World};

/// The error of every kind of call, by every family, to the address that `to` gives; and the reason counted for it.
fn fails(world: &World, to: impl Fn(Family) -> IpAddr, errno: i32, reason: Reason) -> Result<()> {
    these_fail(world, &HOWS, to, errno, reason)
}

fn these_fail(world: &World, hows: &[How], to: impl Fn(Family) -> IpAddr, errno: i32, reason: Reason) -> Result<()> {
    for family in FAMILIES {
        for &how in hows {
            let count = || -> Result<u64> {
                let lines = bpf::drops(&world.maps)?;
                Ok(lines.iter().filter(|line| line.reason() == Some(reason)).map(|line| line.packets).sum())
            };
            let before = count()?;
            let Err(error) = world.call(how, family, to(family)) else {
                bail!("{reason} {how:?} {family:?}: it must fail");
            };
            assert_eq!(error.raw_os_error(), Some(errno), "{reason} {how:?} {family:?}: {error}");
            assert_eq!(count()?, before + 1, "{reason} {how:?} {family:?} is counted");
            let lines = bpf::drops(&world.maps)?;
            let last = lines.iter().find(|line| line.reason() == Some(reason)).context("it is counted")?;
            assert_eq!(last.identity, CALLER);
            assert_eq!((last.tuple.destination, last.tuple.destination_port), (to(family).into(), PORT.to_be()));
            assert_eq!(last.tuple.source, family.caller().into());
        }
    }
    Ok(())
}

fn endpoint(world: &World, host: u8, identity: Identity, networks: u64) -> Result<()> {
    for address in [Family::V4.replica(host), Family::V6.replica(host)] {
        world.maps.endpoints.put(&address.into(), Endpoint { networks, identity, node: 1, ..Endpoint::default() })?;
    }
    Ok(())
}

#[test]
fn what_the_packet_path_would_drop_fails_at_once_and_is_counted() -> Result<()> {
    let mut world = World::new()?;
    world.start_servers(&[20, 22])?;

    fails(&world, |family| family.vip(9), libc::EPERM, Reason::UnknownVip)?;
    world.serve(2, 0b100, &[20])?;
    fails(&world, |family| family.vip(2), libc::EPERM, Reason::NoSharedNetwork)?;
    world.serve(3, NETWORKS, &[])?;
    fails(&world, |family| family.vip(3), libc::ECONNREFUSED, Reason::NoBackend)?;

    let fails_connected = |host, reason| {
        these_fail(&world, &[How::Tcp, How::ConnectedUdp], |family| family.replica(host), libc::EPERM, reason)?;
        anyhow::Ok(())
    };
    fails_connected(99, Reason::UnknownAddress)?;
    let other = Identity { env: 8, service: 80 };
    endpoint(&world, 20, other, NETWORKS)?;
    fails_connected(20, Reason::OtherEnvironment)?;
    for family in FAMILIES {
        let answer =
            world.call(How::Udp, family, family.replica(20)).context("left to the veth, of which there is none")?;
        assert_eq!(answer.name, "20", "{family:?}");
    }
    endpoint(&world, 21, Identity { env: CALLER.env, service: 71 }, 0b100)?;
    fails_connected(21, Reason::NoSharedNetwork)?;
    let key = GrantKey { source: CALLER, destination: other, ..GrantKey::default() };
    world.maps.grants.put(&key, Grant { action: action::DENY, rule: 3, seal: 0 })?;
    fails_connected(20, Reason::Denied)?;
    world.maps.grants.put(&key, Grant { action: action::ALLOW, rule: 3, seal: 0 })?;
    for family in FAMILIES {
        assert_eq!(world.call(How::Tcp, family, family.replica(20))?.name, "20", "a grant opens it: {family:?}");
    }
    // The control: the same environment, a shared network.
    endpoint(&world, 22, Identity { env: CALLER.env, service: 72 }, 0b110)?;
    for family in FAMILIES {
        for how in HOWS {
            let answer = world.call(how, family, family.replica(22))?;
            assert_eq!((answer.name.as_str(), answer.peer.ip()), ("22", family.replica(22)));
        }
    }

    let denied = |family: Family| family.outside(1);
    let denied6 = EgressKey { prefix_len: 64, addr: Family::V6.outside(0).into() };
    let denied4 = EgressKey { prefix_len: 96 + 24, addr: Family::V4.outside(0).into() };
    world.maps.set_egress(&calls::egress(&[(denied4, 9), (denied6, 9)]))?;
    fails(&world, denied, libc::EPERM, Reason::EgressDenied)?;
    world.tell_who_calls(0)?;
    fails(&world, denied, libc::EPERM, Reason::EgressOff)?;
    Ok(())
}

#[test]
fn an_entry_that_is_never_whole_and_a_node_without_configuration_close() -> Result<()> {
    let mut world = World::new()?;
    world.serve(1, NETWORKS, &[1])?;
    let mut services: aya::maps::HashMap<_, [u8; 20], [u8; 32]> =
        aya::maps::Map::HashMap(aya::maps::MapData::from_pin(world.pins.map("SERVICES"))?).try_into()?;
    for key in services.keys().collect::<Result<Vec<_>, _>>()? {
        let mut value = services.get(&key, 0)?;
        value[31] ^= 1;
        services.insert(key, value, 0)?;
    }
    fails(&world, |family| family.vip(1), libc::EPERM, Reason::TornRead)?;
    world.maps.set_node(&NodeConfig::default())?;
    fails(&world, |family| family.vip(1), libc::EPERM, Reason::NoConfig)
}

#[test]
fn a_datagram_socket_without_memory_left_is_told_so() -> Result<()> {
    let mut world = World::new()?;
    world.start_servers(&[1])?;
    world.serve(1, NETWORKS, &[1])?;
    // Since 6.8 the limit is each network namespace's own; before, only the whole machine's could be lowered.
    if world.caller.run("sysctl -w net.core.optmem_max=64").is_err() {
        return Ok(());
    }
    these_fail(&world, &[How::ConnectedUdp, How::Udp], |family| family.vip(1), libc::ENOMEM, Reason::SocketMemory)?;
    for family in FAMILIES {
        world.call(How::Tcp, family, family.vip(1)).context("a stream socket has its mark, and needs no more")?;
    }
    Ok(())
}
