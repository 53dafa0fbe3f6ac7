use std::fmt;
use std::net::IpAddr;

use dataplane::bpf::Maps;
use dataplane::model::name::ZONE;
use dataplane_ebpf::abi::{Addr, Device};

use super::container;
use crate::cli::Global;
use crate::directory::{Directory, ServiceEntry};
use crate::error::CtlError;
use crate::map::bits;
use crate::scope::{ENVIRONMENT, Scope};

/// Who sends: a replica on this node.
pub(super) struct Source {
    pub(super) ifindex: u32,
    pub(super) device: Device,
    /// Of its network namespace; `None` when the sockets of the replica are not known.
    pub(super) cookie: Option<u64>,
    name: String,
    interface: String,
}

impl Source {
    pub(super) fn find(global: &Global, what: &str, maps: &Maps, directory: &Directory) -> Result<Self, CtlError> {
        let devices = devices(maps, directory, what, global)?;
        let Some((ifindex, device)) = devices.into_iter().next() else {
            return Err(CtlError::Unknown {
                what: what.to_owned(),
                expected: "replica on this node",
                meant: directory.meant(split_replica(what).0, None),
                list: "endpoints",
            });
        };
        let sockets = maps.netns.entries()?.into_iter().find(|(_, netns)| netns.address4 == device.address4);
        let service = directory.identity(device.identity);
        let veth = directory.veth(ifindex);
        Ok(Self {
            ifindex,
            device,
            cookie: sockets.map(|(cookie, _)| cookie),
            name: veth.map_or(service, |veth| veth.alias.clone()),
            interface: veth.map_or_else(|| ifindex.to_string(), |veth| veth.name.clone()),
        })
    }

    /// Ids, for who reads the maps.
    pub(super) fn ids(&self) -> String {
        format!(
            "environment {}, service {}, networks {:?}, veth {}",
            self.device.identity.env,
            self.device.identity.service,
            bits(self.device.networks),
            self.interface
        )
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address4 = Addr::from_v4_word(self.device.address4);
        write!(f, "{} ({address4}, {})", self.name, self.device.address6)
    }
}

/// The replicas that `what` may mean, the first one first.
fn devices(maps: &Maps, directory: &Directory, what: &str, global: &Global) -> Result<Vec<(u32, Device)>, CtlError> {
    let mut devices = maps.devices.entries()?;
    // What is there for one command comes last: it has no number.
    let number = |ifindex| directory.replica(ifindex).unwrap_or(u32::MAX);
    devices.sort_by_key(|(ifindex, device)| (number(*ifindex), u32::from_be(device.address4)));
    if let Ok(ip) = what.parse::<IpAddr>() {
        return of_address(maps, devices, &Addr::from(ip));
    }
    let (name, replica) = split_replica(what);
    if let Some(entry) = service(directory, name, &Scope::new(global)?, None)? {
        let wanted = entry.identity;
        devices.retain(|(ifindex, device)| {
            device.identity == wanted && replica.is_none_or(|number| directory.replica(*ifindex) == Some(number))
        });
        return Ok(devices);
    }
    match container::address(what) {
        Some(address) => of_address(maps, devices, &address),
        None => Ok(Vec::new()),
    }
}

fn of_address(maps: &Maps, devices: Vec<(u32, Device)>, address: &Addr) -> Result<Vec<(u32, Device)>, CtlError> {
    let ifindex = maps.endpoints.get(address)?.map(|endpoint| endpoint.ifindex);
    Ok(devices.into_iter().filter(|(device, _)| Some(*device) == ifindex).collect())
}

/// `api.2` → `api` and 2.
pub(super) fn split_replica(what: &str) -> (&str, Option<u32>) {
    match what.rsplit_once('.') {
        Some((name, number)) => match number.parse() {
            Ok(number) => (name, Some(number)),
            Err(_) => (what, None),
        },
        None => (what, None),
    }
}

/// The service of that name: written in full, or in `home` (an environment's id), or the only one in scope.
pub(super) fn service<'a>(
    directory: &'a Directory,
    what: &str,
    scope: &Scope,
    home: Option<u32>,
) -> Result<Option<&'a ServiceEntry>, CtlError> {
    let parts: Vec<&str> = what.split('/').collect();
    if let [project, environment, service] = parts.as_slice() {
        return Ok(directory.services().find(|entry| entry.is(project, environment, service)));
    }
    let labels: Vec<&str> = what.trim_end_matches('.').split('.').collect();
    if let [service, environment, project, ZONE] = labels.as_slice() {
        return Ok(directory.services().find(|entry| entry.is(project, environment, service)));
    }
    let name = labels.strip_suffix(&[ZONE]).unwrap_or(&labels);
    let [name] = name else { return Ok(None) };
    let mut found: Vec<_> = directory.services().filter(|entry| entry.service.eq_ignore_ascii_case(name)).collect();
    if let Some(at_home) = found.iter().find(|entry| Some(entry.identity.env) == home) {
        return Ok(Some(at_home));
    }
    found.retain(|entry| scope.contains(&entry.project, &entry.environment));
    if found.len() > 1 {
        // One project's: the environment that is meant when none is named.
        found.retain(|entry| entry.environment == ENVIRONMENT);
    }
    match found.as_slice() {
        [] => Ok(None),
        [entry] => Ok(Some(entry)),
        several => {
            let found = several.iter().map(ToString::to_string).collect();
            Err(CtlError::Ambiguous { what: what.to_owned(), found })
        }
    }
}

impl ServiceEntry {
    fn is(&self, project: &str, environment: &str, service: &str) -> bool {
        self.project.eq_ignore_ascii_case(project)
            && self.environment.eq_ignore_ascii_case(environment)
            && self.service.eq_ignore_ascii_case(service)
    }
}
