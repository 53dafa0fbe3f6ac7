use std::fmt;
use std::net::IpAddr;

use dataplane::bpf::{Maps, View};
use dataplane::model::name::ZONE;
use dataplane_ebpf::abi::{Addr, Endpoint, Identity, NameKey, ServiceKey};
use dataplane_ebpf::tables::Tables;

use super::container;
use super::source::{Source, service, split_replica};
use crate::cli::{Global, WhyArgs};
use crate::directory::{Directory, wire_name};
use crate::error::CtlError;
use crate::map::bits;
use crate::scope::Scope;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

impl Protocol {
    /// As the IP header has it.
    pub(super) fn number(self, address: Addr) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmp if address.is_v4() => 1,
            Self::Icmp => 58,
        }
    }
}

/// Who receives, and what.
pub(super) struct Destination {
    pub(super) address: Addr,
    /// Host order; none for a ping.
    pub(super) port: Option<u16>,
    pub(super) protocol: Protocol,
    /// Whose address or VIP it is, if any service's.
    pub(super) identity: Option<Identity>,
    /// The networks of that service, a bit each.
    pub(super) networks: u64,
    /// Whether its name means anything to the source; `None` for what was given as an address.
    pub(super) resolves: Option<bool>,
    /// Its name is one of the outside, which the forwarder has to find out.
    pub(super) is_outside: bool,
    name: String,
}

/// `HOST`, `HOST:PORT`, `[IPv6]:PORT`, with `/tcp`, `/udp` or `/icmp` at the end.
#[derive(Debug, PartialEq, Eq)]
struct Written<'a> {
    host: &'a str,
    port: Option<u16>,
    protocol: Protocol,
}

impl Destination {
    pub(super) async fn find(
        global: &Global,
        args: &WhyArgs,
        source: &Source,
        maps: &Maps,
        directory: &Directory,
    ) -> Result<Self, CtlError> {
        let written = parse(&args.destination)?;
        let found = Found::look(global, written.host, source, maps, directory).await?;
        let family = |address: &&Addr| address.is_v4() != args.ipv6;
        let preferred = found.addresses.iter().find(family).or_else(|| found.addresses.first().filter(|_| !args.ipv6));
        let Some(address) = preferred else {
            return Err(CtlError::Family {
                what: written.host.to_owned(),
                family: if args.ipv6 { "IPv6" } else { "IPv4" },
            });
        };
        let view = maps.view()?;
        let (identity, networks) = whose(&view, directory, source.device.identity.env, address)?;
        Ok(Self {
            address: *address,
            port: written.port,
            protocol: written.protocol,
            identity,
            networks,
            resolves: found.resolves,
            is_outside: found.is_outside,
            name: identity.map_or_else(|| written.host.to_owned(), |identity| directory.identity(identity)),
        })
    }

    /// Ids, for who reads the maps; nothing for the outside.
    pub(super) fn ids(&self) -> Option<String> {
        let Identity { env, service } = self.identity?;
        Some(format!("environment {env}, service {service}, networks {:?}", bits(self.networks)))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address.to_string();
        let address = if self.name == address { String::new() } else { format!(" ({address})") };
        match (self.port, self.protocol) {
            (Some(port), Protocol::Udp) => write!(f, "{}{address}, udp port {port}", self.name),
            (Some(port), _) => write!(f, "{}{address}, tcp port {port}", self.name),
            (None, _) => write!(f, "{}{address}, ping", self.name),
        }
    }
}

/// What a host part means.
struct Found {
    addresses: Vec<Addr>,
    resolves: Option<bool>,
    is_outside: bool,
}

impl Found {
    async fn look(
        global: &Global,
        host: &str,
        source: &Source,
        maps: &Maps,
        directory: &Directory,
    ) -> Result<Self, CtlError> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Self::inside(vec![ip.into()], None));
        }
        if let Some(found) = Self::name(host, source, maps)? {
            return Ok(found);
        }
        let home = source.device.identity.env;
        let (name, replica) = split_replica(host);
        if let Some(entry) = service(directory, name, &Scope::new(global)?, Some(home))? {
            let addresses = match replica {
                None => entry.vips.clone(),
                Some(number) => replica_addresses(maps, directory, entry.identity, number)?,
            };
            let resolves = replica.is_none().then_some(false);
            return Ok(Self::inside(addresses, resolves));
        }
        if let Some(address) = container::address(host) {
            return Ok(Self::inside(vec![address], None));
        }
        Self::outside(host, directory, home).await
    }

    /// As the source's own environment has it.
    fn name(host: &str, source: &Source, maps: &Maps) -> Result<Option<Self>, CtlError> {
        let Some(wire) = wire_name(host) else { return Ok(None) };
        let Some(name) = maps.names.get(&NameKey { env: source.device.identity.env, name: wire })? else {
            return Ok(None);
        };
        let addresses = [Addr::from_v4_word(name.vip4), name.vip6];
        let addresses = addresses.into_iter().filter(|address| !address.is_none()).collect();
        Ok(Some(Self::inside(addresses, Some(name.networks & source.device.networks != 0))))
    }

    /// As the host resolves it, which the forwarder asks as well.
    async fn outside(host: &str, directory: &Directory, home: u32) -> Result<Self, CtlError> {
        let unknown = || CtlError::Unknown {
            what: host.to_owned(),
            expected: "service, replica, name or address",
            meant: directory.meant(split_replica(host).0, Some(home)),
            list: "names",
        };
        // A name of the private network's is never asked for out there.
        if !host.contains('.') || host.trim_end_matches('.').ends_with(&format!(".{ZONE}")) {
            return Err(unknown());
        }
        let resolved = tokio::net::lookup_host((host, 0)).await.map_err(|_| unknown())?;
        let addresses = resolved.map(|address| address.ip().into()).collect();
        Ok(Self { addresses, resolves: None, is_outside: true })
    }

    fn inside(addresses: Vec<Addr>, resolves: Option<bool>) -> Self {
        Self { addresses, resolves, is_outside: false }
    }
}

/// Both addresses of one replica.
fn replica_addresses(
    maps: &Maps,
    directory: &Directory,
    identity: Identity,
    number: u32,
) -> Result<Vec<Addr>, CtlError> {
    let endpoints = maps.endpoints.entries()?.into_iter();
    let its = endpoints
        .filter(|(_, endpoint)| endpoint.identity == identity && directory.replica(endpoint.ifindex) == Some(number));
    Ok(its.map(|(address, _)| address).collect())
}

/// The service that an address belongs to, as a replica's or as a VIP in the source's environment or elsewhere.
fn whose(
    view: &View<'_>,
    directory: &Directory,
    home: u32,
    address: &Addr,
) -> Result<(Option<Identity>, u64), CtlError> {
    let mut endpoint = Endpoint::default();
    if view.endpoint(address, &mut endpoint).unwrap_or(false) {
        return Ok((Some(endpoint.identity), endpoint.networks));
    }
    if let Ok(Some(service)) = view.service(&ServiceKey { env: home, vip: *address }) {
        return Ok((Some(Identity { env: home, service: service.service }), service.networks));
    }
    let elsewhere = directory.services().find(|entry| entry.vips.contains(address));
    Ok(elsewhere.map_or((None, 0), |entry| (Some(entry.identity), entry.networks)))
}

fn parse(text: &str) -> Result<Written<'_>, CtlError> {
    let wrong = |reason| CtlError::Destination { what: text.to_owned(), reason };
    let (rest, protocol) = match text.rsplit_once('/') {
        Some((rest, "tcp")) => (rest, Some(Protocol::Tcp)),
        Some((rest, "udp")) => (rest, Some(Protocol::Udp)),
        Some((rest, "icmp")) => (rest, Some(Protocol::Icmp)),
        _ => (text, None),
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(|| wrong("a ] is missing"))?;
            (host, after.strip_prefix(':'))
        }
        // Two colons and more: an IPv6 address alone.
        None => match rest.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            _ => (rest, None),
        },
    };
    let port = port.map(str::parse).transpose().map_err(|_| wrong("the port is no number from 1 to 65535"))?;
    match (port, protocol) {
        (_, _) if host.is_empty() => Err(wrong("the host is missing")),
        (Some(0), _) => Err(wrong("the port is no number from 1 to 65535")),
        (Some(_), Some(Protocol::Icmp)) => Err(wrong("a ping has no port")),
        (None, Some(Protocol::Tcp | Protocol::Udp)) => Err(wrong("the port is missing")),
        (None, _) => Ok(Written { host, port, protocol: Protocol::Icmp }),
        (Some(_), protocol) => Ok(Written { host, port, protocol: protocol.unwrap_or(Protocol::Tcp) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(host: &str, port: Option<u16>, protocol: Protocol) -> Written<'_> {
        Written { host, port, protocol }
    }

    #[test]
    fn destinations_are_written_as_people_do() {
        assert_eq!(parse("api:80").unwrap(), written("api", Some(80), Protocol::Tcp));
        assert_eq!(parse("api:53/udp").unwrap(), written("api", Some(53), Protocol::Udp));
        assert_eq!(parse("shop/production/api").unwrap(), written("shop/production/api", None, Protocol::Icmp));
        assert_eq!(parse("shop/production/api:80/tcp").unwrap().host, "shop/production/api");
        assert_eq!(parse("[fd53::1]:443").unwrap(), written("fd53::1", Some(443), Protocol::Tcp));
        assert_eq!(parse("fd53::1").unwrap(), written("fd53::1", None, Protocol::Icmp));
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for wrong in ["", ":80", "api:0", "api:x", "api:80/icmp", "api/udp", "[fd53::1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
