use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use dataplane::agent::names::{self, text_name};
use dataplane::bpf::Maps;
use dataplane::model::name::{ZONE, normalise};
use dataplane::model::typo;
use dataplane::netlink::Netlink;
use dataplane_ebpf::abi::{Addr, Identity, NAME_MAX, NodeConfig};
use ipnet::Ipv4Net;

use crate::error::CtlError;

/// Names for the ids in the maps, out of the maps: it takes no skepd.
///
/// PTRS says what an address is called, SERVICES which service has it as its VIP; what a replica's number is, the alias of
/// its veth says.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    services: BTreeMap<u32, ServiceEntry>,
    environments: BTreeMap<u32, (String, String)>,
    veths: BTreeMap<u32, Veth>,
}

/// A service as the maps know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceEntry {
    pub(crate) identity: Identity,
    pub(crate) project: String,
    pub(crate) environment: String,
    pub(crate) service: String,
    pub(crate) networks: u64,
    pub(crate) vips: Vec<Addr>,
}

/// The host end of a replica's veth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Veth {
    pub(crate) name: String,
    /// `shop/production/api.1`.
    pub(crate) alias: String,
}

impl Directory {
    pub(crate) async fn read(maps: &Maps) -> Result<Self, CtlError> {
        let mut directory = Self { veths: veths(&maps.node()?).await, ..Self::default() };
        let names: BTreeMap<_, _> = maps.ptrs.entries()?.into_iter().collect();
        for (key, service) in maps.services.entries()? {
            let name = names.get(&dataplane_ebpf::abi::PtrKey { env: key.env, addr: key.vip });
            let Some((service_name, environment, project)) = name.and_then(|ptr| full_name(&ptr.name)) else {
                continue;
            };
            directory.environments.insert(key.env, (project.clone(), environment.clone()));
            let entry = directory.services.entry(service.service).or_insert_with(|| ServiceEntry {
                identity: Identity { env: key.env, service: service.service },
                project,
                environment,
                service: service_name,
                networks: service.networks,
                vips: Vec::new(),
            });
            entry.vips.push(key.vip);
            // IPv4 first.
            entry.vips.sort_by_key(|vip| !vip.is_v4());
        }
        Ok(directory)
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &ServiceEntry> {
        self.services.values()
    }

    /// The service that was probably meant by a name that is none: of an environment before others, by its id.
    pub(crate) fn meant(&self, name: &str, home: Option<u32>) -> Option<String> {
        let label = name.trim_end_matches('.').split('.').next()?;
        let label = label.rsplit('/').next()?;
        let normal = normalise(label).unwrap_or_else(|_| label.to_owned());
        let of = |home: Option<u32>| {
            let entries = self.services().filter(move |entry| home.is_none_or(|env| entry.identity.env == env));
            entries.map(|entry| entry.service.as_str())
        };
        let at_home = home.and_then(|_| typo::meant(&normal, of(home)));
        let meant = at_home.or_else(|| typo::meant(&normal, of(None)))?;
        (meant != name).then(|| meant.to_owned())
    }

    pub(crate) fn service(&self, id: u32) -> Option<&ServiceEntry> {
        self.services.get(&id)
    }

    /// `shop/production`, or the id.
    pub(crate) fn environment(&self, id: u32) -> String {
        self.environments.get(&id).map_or_else(|| id.to_string(), |(project, name)| format!("{project}/{name}"))
    }

    /// Project and environment.
    pub(crate) fn environment_key(&self, id: u32) -> Option<(&str, &str)> {
        self.environments.get(&id).map(|(project, environment)| (project.as_str(), environment.as_str()))
    }

    /// `shop/production/api`, or the ids.
    pub(crate) fn identity(&self, identity: Identity) -> String {
        match self.services.get(&identity.service) {
            Some(entry) => entry.to_string(),
            None if identity == Identity::WORLD => "outside".to_owned(),
            None => format!("{}/{}", self.environment(identity.env), identity.service),
        }
    }

    pub(crate) fn veth(&self, ifindex: u32) -> Option<&Veth> {
        self.veths.get(&ifindex)
    }

    /// The number of the replica behind a device.
    pub(crate) fn replica(&self, ifindex: u32) -> Option<u32> {
        self.veth(ifindex)?.alias.rsplit_once('.')?.1.parse().ok()
    }
}

impl std::fmt::Display for ServiceEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.project, self.environment, self.service)
    }
}

/// Names are a help: where devices cannot be listed, ids have to do.
async fn veths(node: &NodeConfig) -> BTreeMap<u32, Veth> {
    let listed = async {
        let pool = pool4(node)?;
        let veths = Netlink::connect().ok()?.veths(pool).await.ok()?;
        Some(veths.into_iter().map(|veth| (veth.ifindex, Veth { name: veth.name, alias: veth.alias })).collect())
    };
    listed.await.unwrap_or_default()
}

/// Where IPv4 addresses of replicas come from.
fn pool4(node: &NodeConfig) -> Option<Ipv4Net> {
    let [pool, _] = node.container_pools;
    let IpAddr::V4(network) = pool.network.to_ip() else { return None };
    let length = Ipv4Addr::from_bits(u32::from_be(pool.mask.v4_word())).to_bits().leading_ones();
    Ipv4Net::new(network, u8::try_from(length).ok()?).ok()
}

/// `api.production.shop.internal` → service, environment, project.
fn full_name(wire: &[u8; NAME_MAX]) -> Option<(String, String, String)> {
    let text = text_name(wire);
    let labels: Vec<&str> = text.split('.').collect();
    match labels.as_slice() {
        [service, environment, project, zone] if *zone == ZONE => {
            Some(((*service).to_owned(), (*environment).to_owned(), (*project).to_owned()))
        }
        _ => None,
    }
}

/// A name as people write it in wire format, lower case; `None` when it is too long or no name.
pub(crate) fn wire_name(text: &str) -> Option<[u8; NAME_MAX]> {
    names::wire_name(&text.trim_end_matches('.').to_ascii_lowercase().replace('_', "-")).map(|(wire, _)| wire)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_to_wire_format_and_back() {
        let wire = wire_name("API.production.shop.internal").unwrap();
        assert_eq!(&wire[..5], b"\x03api\x0a");
        assert_eq!(text_name(&wire), "api.production.shop.internal");
        let expected = ("api".to_owned(), "production".to_owned(), "shop".to_owned());
        assert_eq!(full_name(&wire), Some(expected));
    }

    #[test]
    fn what_does_not_fit_is_no_name() {
        assert_eq!(wire_name(""), None);
        assert_eq!(wire_name(&"x".repeat(64)), None);
        assert_eq!(wire_name(&["x"; 64].join(".")), None);
        assert!(wire_name(&["x"; 63].join(".")).is_some());
    }

    #[test]
    fn a_mask_becomes_a_prefix_length() {
        let pool = dataplane_ebpf::abi::Pool::new("10.208.0.0".parse().unwrap(), 12);
        let node = NodeConfig { container_pools: [pool, pool], ..NodeConfig::default() };
        assert_eq!(pool4(&node), Some("10.208.0.0/12".parse().unwrap()));
    }
}
