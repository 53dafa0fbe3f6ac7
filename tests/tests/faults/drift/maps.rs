//! Entries of the maps: deleted, altered, added.

use anyhow::{Context as _, Result};
use dataplane::bpf::{Maps, Pins};
use dataplane_ebpf::abi::{
    Addr, Backend, BackendKey, Device, Endpoint, Grant, GrantKey, Identity, Name, NameKey, Netns, Ptr, PtrKey, Service,
    ServiceKey,
};
use tests::faults::{Cost, Fault, Scene};
use tests::wait_for;

use super::{WITHIN, fault, web};
use Cost::{Interruption, Nothing};

/// Deletes every entry of a map.
macro_rules! empty {
    ($scene:expr, $map:ident) => {{
        let maps = maps($scene)?;
        for (key, _) in maps.$map.entries()? {
            maps.$map.delete(&key)?;
        }
        Ok(())
    }};
}
pub(super) const FAULTS: &[Fault] = &[
    fault("maps: every entry of many deleted", Interruption, |scene| {
        let (endpoints, services, backends): (Result<()>, Result<()>, Result<()>) =
            (empty!(scene, endpoints), empty!(scene, services), empty!(scene, backends));
        let (names, ptrs, devices, netns): (Result<()>, Result<()>, Result<()>, Result<()>) =
            (empty!(scene, names), empty!(scene, ptrs), empty!(scene, devices), empty!(scene, netns));
        [endpoints, services, backends, names, ptrs, devices, netns].into_iter().collect()
    }),
    fault("maps: entries altered", Interruption, |scene| {
        alter_endpoint(scene)?;
        alter_name(scene)?;
        alter_backends(scene)
    }),
    fault("maps: foreign entries, removed and reported", Nothing, foreign),
];

/// What [`FAULTS`] does at once.
pub(super) const EACH: &[Fault] = &[
    fault("DEVICES: every entry deleted", Interruption, |scene| empty!(scene, devices)),
    fault("NETNS: every entry deleted", Interruption, |scene| empty!(scene, netns)),
    fault("ENDPOINTS: every entry deleted", Interruption, |scene| empty!(scene, endpoints)),
    fault("SERVICES: every entry deleted", Interruption, |scene| empty!(scene, services)),
    fault("BACKENDS: every entry deleted", Interruption, |scene| empty!(scene, backends)),
    fault("NAMES: every entry deleted", Interruption, |scene| empty!(scene, names)),
    fault("PTRS: every entry deleted", Nothing, |scene| empty!(scene, ptrs)),
    fault("EGRESS: a denied prefix deleted", Nothing, |scene| {
        // 10.0.0.0/8, v4-mapped: 104 bits of it count.
        let key = "0x68 0 0 0  0 0 0 0 0 0 0 0 0 0 0xff 0xff 10 0 0 0";
        super::on_host(scene, &format!("bpftool map delete pinned PINS/EGRESS key {key}"))
    }),
    fault("ENDPOINTS: an entry altered", Interruption, alter_endpoint),
    fault("NAMES: an entry altered", Interruption, alter_name),
    fault("BACKENDS: every entry altered", Interruption, alter_backends),
];

fn alter_endpoint(scene: &Scene) -> Result<()> {
    let (maps, key) = (maps(scene)?, address(scene)?);
    let endpoint = maps.endpoints.get(&key)?.context("its endpoint")?;
    Ok(maps.endpoints.put(&key, Endpoint { networks: 0, ..endpoint })?)
}

fn alter_name(scene: &Scene) -> Result<()> {
    let maps = maps(scene)?;
    let vip4 = Addr::from(web(scene)?.vip()?.parse::<std::net::IpAddr>()?).v4_word();
    let entries = maps.names.entries()?;
    let (key, name) = entries.into_iter().find(|(_, name)| name.vip4 == vip4).context("its name")?;
    Ok(maps.names.put(&key, Name { vip4: vip4 ^ 1, ..name })?)
}

fn alter_backends(scene: &Scene) -> Result<()> {
    let maps = maps(scene)?;
    for (key, backend) in maps.backends.entries()? {
        maps.backends.put(&key, Backend { address4: backend.address4 ^ 1, ..backend })?;
    }
    Ok(())
}

/// What skepd says of it, too.
fn foreign(scene: &Scene) -> Result<()> {
    let maps = maps(scene)?;
    let nobody = Identity { env: 4_000_000, service: 4_000_000 };
    let address = Addr::from(std::net::Ipv4Addr::new(10, 223, 255, 1));
    let mut name = [0; 128];
    name[..8].copy_from_slice(b"\x06intrus\0");
    maps.devices.put(&4_000_000, Device { identity: nobody, ..Device::default() })?;
    maps.netns.put(&u64::MAX, Netns { identity: nobody, ..Netns::default() })?;
    maps.endpoints.put(&address, Endpoint { identity: nobody, ..Endpoint::default() })?;
    maps.services.put(
        &ServiceKey { env: nobody.env, vip: address },
        Service { service: nobody.service, ..Service::default() },
    )?;
    maps.backends.put(&BackendKey { service: nobody.service, generation: 1, slot: 7 }, Backend::default())?;
    maps.names.put(&NameKey { env: nobody.env, name }, Name::default())?;
    maps.ptrs.put(&PtrKey { env: nobody.env, addr: address }, Ptr { networks: 0, name, len: 9, pad: 0, seal: 0 })?;
    let grant = GrantKey { source: nobody, destination: nobody, ..GrantKey::default() };
    maps.grants.put(&grant, Grant::default())?;
    // 10.99.0.0/16, v4-mapped, allowed.
    let key = "0x70 0 0 0  0 0 0 0 0 0 0 0 0 0 0xff 0xff 10 99 0 0";
    super::on_host(scene, &format!("bpftool map update pinned PINS/EGRESS key {key} value 1 0 0 0 0 0 0 0"))?;
    // The same in a list of a service that is nobody's.
    let key = "0xb0 0 0 0  9 9 9 9  1 0 0 0  0 0 0 0 0 0 0 0 0 0 0xff 0xff 10 99 0 0";
    super::on_host(scene, &format!("bpftool map update pinned PINS/EGRESS_LISTS key {key} value 1 0 0 0 0 0 0 0"))?;
    let wanted =
        ["DEVICES", "NETNS", "ENDPOINTS", "SERVICES", "BACKENDS", "NAMES", "PTRS", "GRANTS", "EGRESS", "EGRESS_LISTS"];
    let missing = |text: &str| {
        let told: Vec<&str> = text.split_whitespace().collect();
        wanted.iter().copied().filter(|map| !told.contains(map)).collect::<Vec<_>>()
    };
    let mut last = Vec::new();
    wait_for("the report of `skepctl check`", WITHIN, || {
        let output = scene.node.skepctl_output(&["check"])?;
        last = missing(&String::from_utf8_lossy(&output.stdout));
        Ok(last.is_empty().then_some(()))
    })
    .with_context(|| format!("not reported: {last:?}"))
}

fn maps(scene: &Scene) -> Result<Maps> {
    Ok(Maps::open(&Pins::new(&scene.node.bpffs()))?)
}

fn address(scene: &Scene) -> Result<Addr> {
    Ok(web(scene)?.address()?.parse::<std::net::IpAddr>()?.into())
}
