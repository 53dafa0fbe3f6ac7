//! A container's side as it is, and what it lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};

use super::link::Link;
use super::routes::{destination, devices, table};
use super::{CONTAINER_IFNAME, GATEWAY4, GATEWAY6, Netlink, NetlinkError, Netns, SegmentSize, VethSpec, sysctl};

/// A container's side as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    /// Its loopback device is up.
    pub loopback: bool,
    /// Its end of the pair, under its name.
    pub device: Option<Device>,
    /// Addresses on the device.
    pub addresses: BTreeSet<IpAddr>,
    /// Permanent neighbours on the device.
    pub neighbours: BTreeMap<IpAddr, [u8; 6]>,
    /// Host addresses that are on the link.
    pub on_link: BTreeSet<IpAddr>,
    /// Gateways of default routes, with the address that is sent from.
    pub defaults: BTreeMap<IpAddr, IpAddr>,
}

/// The container's end of the pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Its index in there.
    pub ifindex: u32,
    /// Set up.
    pub up: bool,
    /// Bytes.
    pub mtu: u32,
    /// Its MAC.
    pub mac: [u8; 6],
    /// How much of a stream it takes at once.
    pub segments: SegmentSize,
    /// Its sysctls are as they should be.
    pub tuned: bool,
}

/// Something that a container's side lacks, or has otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The loopback device is down.
    Loopback,
    /// The device as a whole.
    Device,
    /// Sysctls, before there are addresses.
    Sysctls,
    /// MTU, MAC, up.
    Link,
    /// Segment size.
    SegmentSize,
    /// An address of its own.
    Address(IpAddr),
    /// The MAC of this gateway.
    Neighbour(IpAddr),
    /// The route to this gateway.
    OnLink(IpAddr),
    /// The default route through this gateway.
    Default(IpAddr),
}

/// Both gateways, each with the address that is sent from.
pub(super) fn gateways(spec: &VethSpec) -> [(IpAddr, IpAddr); 2] {
    [(GATEWAY4.into(), spec.address4.into()), (GATEWAY6.into(), spec.address6.into())]
}

impl Inside {
    /// What is not as `spec` wants it, in the order in which it is to be made. What is there beyond it is left alone.
    pub fn lacks(&self, spec: &VethSpec) -> Vec<Part> {
        let mut lacks = Vec::new();
        lacks.extend((!self.loopback).then_some(Part::Loopback));
        let Some(device) = &self.device else {
            lacks.push(Part::Device);
            return lacks;
        };
        lacks.extend((!device.tuned).then_some(Part::Sysctls));
        let link = device.up && device.mtu == spec.mtu && device.mac == spec.mac;
        lacks.extend((!link).then_some(Part::Link));
        lacks.extend((!device.segments.is_largest(spec.segment_max)).then_some(Part::SegmentSize));
        let addresses = [IpAddr::from(spec.address4), spec.address6.into()];
        lacks.extend(addresses.into_iter().filter(|address| !self.addresses.contains(address)).map(Part::Address));
        for (gateway, source) in gateways(spec) {
            let known = self.neighbours.get(&gateway) == Some(&spec.host_mac);
            lacks.extend((!known).then_some(Part::Neighbour(gateway)));
            lacks.extend((!self.on_link.contains(&gateway)).then_some(Part::OnLink(gateway)));
            let default = self.defaults.get(&gateway) == Some(&source);
            lacks.extend((!default).then_some(Part::Default(gateway)));
        }
        lacks
    }
}

impl Netns {
    /// A container's side as it is.
    ///
    /// # Errors
    /// When the namespace cannot be entered or a dump fails.
    pub async fn inside(&self) -> Result<Inside, NetlinkError> {
        self.netlink().await?.inside().await
    }
}

impl Netlink {
    /// A container's side, over a connection that was made in there.
    pub(super) async fn inside(&self) -> Result<Inside, NetlinkError> {
        let links = self.links().await?;
        let named = |name: &str| links.iter().find(|link| link.name == name);
        let mut inside = Inside { loopback: named("lo").is_some_and(|lo| lo.up), ..Inside::default() };
        let Some(device) = named(CONTAINER_IFNAME) else { return Ok(inside) };
        inside.device = Some(Device::from(device));
        let ifindex = device.ifindex;
        inside.addresses = self.addresses_of(ifindex).await?;
        let neighbours = self.permanent_neighbours().await?.into_iter().filter(|(device, ..)| *device == ifindex);
        inside.neighbours = neighbours.map(|(_, address, mac)| (address, mac)).collect();
        for message in self.all_routes().await?.iter().filter(|message| leads_through(message, ifindex)) {
            let Some(prefix) = destination(message) else { continue };
            match (prefix.prefix_len(), gateway(message)) {
                (0, Some(gateway)) => inside.defaults.extend(source(message).map(|source| (gateway, source))),
                (len, None) if len == prefix.max_prefix_len() => drop(inside.on_link.insert(prefix.addr())),
                _ => {}
            }
        }
        Ok(inside)
    }
}

impl Netlink {
    /// The addresses of a device that have no network around them.
    pub(super) async fn addresses_of(&self, ifindex: u32) -> Result<BTreeSet<IpAddr>, NetlinkError> {
        let _turn = self.listing.lock().await;
        let addresses: Vec<AddressMessage> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(NetlinkError::request("list", "addresses"))?;
        let here = addresses.iter().filter(|message| message.header.index == ifindex);
        Ok(here.filter_map(host_address).collect())
    }
}

impl From<&Link> for Device {
    fn from(link: &Link) -> Self {
        Self {
            ifindex: link.ifindex,
            up: link.up,
            mtu: link.mtu,
            mac: link.mac,
            segments: link.segments,
            tuned: sysctl::is_container(link),
        }
    }
}

/// A whole address, without a network around it.
fn host_address(message: &AddressMessage) -> Option<IpAddr> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    })?;
    (message.header.prefix_len == if address.is_ipv4() { 32 } else { 128 }).then_some(address)
}

fn leads_through(message: &RouteMessage, ifindex: u32) -> bool {
    message.header.kind == RouteType::Unicast
        && table(message) == u32::from(RouteHeader::RT_TABLE_MAIN)
        && devices(message) == [ifindex]
}

fn gateway(message: &RouteMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        _ => None,
    })
}

fn source(message: &RouteMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(address) => ip(address),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::LinkAttribute;

    use super::*;

    fn spec() -> VethSpec {
        VethSpec::new([10, 208, 0, 5].into(), "fd53::5".parse().unwrap(), "shop", 1500)
    }

    fn whole(spec: &VethSpec) -> Inside {
        Inside {
            loopback: true,
            device: Some(Device {
                ifindex: 2,
                up: true,
                mtu: spec.mtu,
                mac: spec.mac,
                segments: SegmentSize::default(),
                tuned: true,
            }),
            addresses: [spec.address4.into(), spec.address6.into()].into(),
            neighbours: gateways(spec).map(|(gateway, _)| (gateway, spec.host_mac)).into(),
            on_link: gateways(spec).map(|(gateway, _)| gateway).into(),
            defaults: gateways(spec).into(),
        }
    }

    #[test]
    fn only_what_differs_is_lacking() {
        let spec = spec();
        assert_eq!(whole(&spec).lacks(&spec), []);
        // Somebody's own address is no business of ours.
        let more = IpAddr::from([192, 0, 2, 1]);
        type Damage = fn(&mut Inside);
        let cases: [(Damage, Part); 8] = [
            (|inside| inside.loopback = false, Part::Loopback),
            (|inside| inside.device = None, Part::Device),
            (|inside| inside.device.as_mut().unwrap().up = false, Part::Link),
            (
                |inside| inside.device.as_mut().unwrap().segments.take(&LinkAttribute::GsoMaxSize(1_000)),
                Part::SegmentSize,
            ),
            (|inside| _ = inside.addresses.pop_first(), Part::Address([10, 208, 0, 5].into())),
            (|inside| _ = inside.neighbours.insert(GATEWAY4.into(), [0; 6]), Part::Neighbour(GATEWAY4.into())),
            (|inside| _ = inside.on_link.remove(&GATEWAY6.into()), Part::OnLink(GATEWAY6.into())),
            (
                |inside| _ = inside.defaults.insert(GATEWAY4.into(), [10, 0, 0, 1].into()),
                Part::Default(GATEWAY4.into()),
            ),
        ];
        for (damage, part) in cases {
            let mut inside = whole(&spec);
            inside.addresses.insert(more);
            damage(&mut inside);
            assert_eq!(inside.lacks(&spec), [part]);
        }
    }
}
