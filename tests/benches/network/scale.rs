//! The same paths with 10 and with 100,000 endpoints and names in the maps.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result, ensure};
use dataplane::bpf::{Maps, Pins};
use dataplane_ebpf::abi::{
    Addr, Backend, BackendKey, Backends, Endpoint, Identity, NAME_MAX, Name, NameKey, Ptr, PtrKey,
    Service as ServiceValue, ServiceKey,
};

use crate::report::Sample;
use crate::subject::{Resolver, Stage, Subject};
use crate::{CASES, Effort, names, path};

/// Entries beside the few of the environment under test.
const MANY: u32 = 100_000;
/// Environment and service ids that no real one has.
const FIRST_ID: u32 = 1_000_000;

/// Takes turns between nearly empty and full maps. The daemon is dead meanwhile: it would take foreign entries for drift.
pub(crate) fn measure(stage: &mut Stage, effort: &Effort, samples: &mut Vec<Sample>) -> Result<()> {
    stage.node.kill_skepd()?;
    let maps = Maps::open(&Pins::new(&stage.node.bpffs()))?;
    let subject = stage.subjects.last().context("no subject")?;
    let resolver = stage.resolvers.last().context("no resolver")?;
    for round in 1..=effort.rounds {
        eprintln!("size, round {round} of {}", effort.rounds);
        for (name, fill) in [("10-entries", false), ("100000-entries", true)] {
            if fill {
                each(|i| put(&maps, i))?;
            }
            figures(subject, resolver, effort, name, samples)?;
            if fill {
                let held = maps.endpoints.usage()?;
                ensure!(held >= MANY as usize, "only {held} endpoints in the map");
                each(|i| delete(&maps, i))?;
            }
        }
    }
    Ok(())
}

fn figures(
    subject: &Subject,
    resolver: &Resolver,
    effort: &Effort,
    name: &'static str,
    samples: &mut Vec<Sample>,
) -> Result<()> {
    for case in CASES {
        samples.extend(path(case, subject, "size", name, effort)?);
    }
    samples.extend(names(resolver, "size", name, effort)?);
    Ok(())
}

fn each(mut action: impl FnMut(u32) -> Result<()>) -> Result<()> {
    (0..MANY).try_for_each(&mut action)
}

struct Keys {
    address: Addr,
    service: ServiceKey,
    backend: BackendKey,
    name: NameKey,
    ptr: PtrKey,
}

fn keys(i: u32) -> Keys {
    let id = FIRST_ID + i;
    let [_, b, c, d] = i.to_be_bytes();
    let address = Addr::from(IpAddr::V4(Ipv4Addr::new(10, 209 + b, c, d)));
    let vip = Addr::from(IpAddr::V4(Ipv4Addr::new(10, 224, c, d)));
    Keys {
        address,
        service: ServiceKey { env: id, vip },
        backend: BackendKey { service: id, generation: 1, slot: 0 },
        name: NameKey { env: id, name: wire_name(i) },
        ptr: PtrKey { env: id, addr: vip },
    }
}

/// `service-<i>.internal` in wire format.
fn wire_name(i: u32) -> [u8; NAME_MAX] {
    let label = format!("service-{i:06}");
    let mut name = [0; NAME_MAX];
    name[0] = label.len() as u8;
    name[1..=label.len()].copy_from_slice(label.as_bytes());
    name[label.len() + 1..label.len() + 10].copy_from_slice(b"\x08internal");
    name
}

fn put(maps: &Maps, i: u32) -> Result<()> {
    let keys = keys(i);
    let identity = Identity { env: FIRST_ID + i, service: FIRST_ID + i };
    let endpoint = Endpoint { networks: 1, identity, node: 1, ..Endpoint::default() };
    let backends = Backends { generation: 1, count: 1, local: 1 }.word();
    let service = ServiceValue { backends, networks: 1, service: identity.service, ..ServiceValue::default() };
    let backend = Backend { address4: keys.address.v4_word(), ..Backend::default() };
    let name = Name { networks: 1, vip4: keys.service.vip.v4_word(), ..Name::default() };
    let ptr = Ptr { networks: 1, name: keys.name.name, len: 25, pad: 0, seal: 0 };
    maps.endpoints.put(&keys.address, endpoint)?;
    maps.services.put(&keys.service, service)?;
    maps.backends.put(&keys.backend, backend)?;
    maps.names.put(&keys.name, name)?;
    maps.ptrs.put(&keys.ptr, ptr)?;
    Ok(())
}

fn delete(maps: &Maps, i: u32) -> Result<()> {
    let keys = keys(i);
    maps.endpoints.delete(&keys.address)?;
    maps.services.delete(&keys.service)?;
    maps.backends.delete(&keys.backend)?;
    maps.names.delete(&keys.name)?;
    maps.ptrs.delete(&keys.ptr)?;
    Ok(())
}
