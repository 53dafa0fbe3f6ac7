use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::StreamExt;
use netlink_packet_route::link::{InfoData, InfoVeth};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::error::errno;
use super::link::Link;
use super::{CONTAINER_IFNAME, Netlink, NetlinkError, Netns, SegmentSize, sysctl};

/// First characters of every host end's name; the programs' and the firewall's "from a container".
pub const VETH_PREFIX: &str = "skep";

/// Name of the host end of the pair with this address, always 12 characters (`IFNAMSIZ` allows 15).
pub fn veth_name(address4: Ipv4Addr) -> String {
    format!("{VETH_PREFIX}{:08x}", address4.to_bits())
}

/// MAC of the container's end: locally administered, from the address, so that it never has to be remembered.
pub fn container_mac(address4: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address4.octets();
    [0x02, 0x53, a, b, c, d]
}

/// MAC of the host's end, which is the gateway's MAC.
pub fn host_mac(address4: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address4.octets();
    [0x06, 0x53, a, b, c, d]
}

/// A veth pair as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VethSpec {
    /// Name of the host's end.
    pub name: String,
    /// `ifalias` of the host's end, for people.
    pub alias: String,
    /// MAC of the container's end.
    pub mac: [u8; 6],
    /// MAC of the host's end.
    pub host_mac: [u8; 6],
    /// The container's.
    pub address4: Ipv4Addr,
    /// The container's.
    pub address6: Ipv6Addr,
    /// Bytes, both ends.
    pub mtu: u32,
    /// The container's sockets give its end no more of a stream at once: octets.
    pub segment_max: u32,
}

impl VethSpec {
    /// Name and MACs follow from the IPv4 address; the segments are as large as the pair takes.
    pub fn new(address4: Ipv4Addr, address6: Ipv6Addr, alias: impl Into<String>, mtu: u32) -> Self {
        Self {
            name: veth_name(address4),
            alias: alias.into(),
            mac: container_mac(address4),
            host_mac: host_mac(address4),
            address4,
            address6,
            mtu,
            segment_max: u32::MAX,
        }
    }
}

/// A host end as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedVeth {
    /// Its name.
    pub name: String,
    /// Its index in the host's namespace.
    pub ifindex: u32,
    /// The IPv4 address that the name stands for.
    pub address4: Ipv4Addr,
    /// `ifalias`.
    pub alias: String,
    /// MAC of this end.
    pub host_mac: [u8; 6],
    /// Bytes.
    pub mtu: u32,
    /// Set up by the administrator.
    pub up: bool,
    /// The container's end is up too: without it packets for the container vanish silently.
    pub carrier: bool,
    /// How much of a stream it takes at once.
    pub segments: SegmentSize,
    /// Its sysctls are as they should be.
    pub tuned: bool,
    /// The container's namespace, as this namespace numbers it; none: the other end is here.
    pub peer_netns: Option<i32>,
    /// Host addresses that skepd's routes lead to it.
    pub routes: Vec<IpAddr>,
    /// Permanent neighbours on it.
    pub neighbours: Vec<(IpAddr, [u8; 6])>,
}

impl ObservedVeth {
    pub(super) fn new(link: &Link, address4: Ipv4Addr) -> Self {
        Self {
            segments: link.segments,
            tuned: sysctl::is_host_end(link),
            peer_netns: link.peer_netns,
            name: link.name.clone(),
            ifindex: link.ifindex,
            address4,
            alias: link.alias.clone(),
            host_mac: link.mac,
            mtu: link.mtu,
            up: link.up,
            carrier: link.carrier,
            routes: Vec::new(),
            neighbours: Vec::new(),
        }
    }

    /// Whether [`Netlink::ensure_host_side`] would change nothing.
    pub fn is_as(&self, spec: &VethSpec) -> bool {
        let addresses = [spec.address4.into(), spec.address6.into()];
        self.name == spec.name
            && self.alias == spec.alias
            && self.host_mac == spec.host_mac
            && self.mtu == spec.mtu
            && self.up
            && self.segments.is_largest(u32::MAX)
            && self.tuned
            && addresses.iter().all(|address| self.routes.contains(address))
            && addresses.iter().all(|address| self.neighbours.contains(&(*address, spec.mac)))
    }
}

impl Netlink {
    /// Makes the pair, the container's end inside `netns`, both ends down; a pair of that name that
    /// leads elsewhere is replaced. Returns the host end's ifindex.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn create_veth(&self, spec: &VethSpec, netns: &Netns) -> Result<u32, NetlinkError> {
        let inside = netns.netlink().await?;
        let host = self.link(&spec.name).await?;
        let mut old = inside.link(CONTAINER_IFNAME).await?;
        if let Some(host) = host.as_ref().filter(|_| old.is_none()) {
            old = inside.name_back(host).await?;
        }
        if let Some(host) = host {
            if self.is_pair(&host, old.as_ref(), spec, netns).await? {
                return Ok(host.ifindex);
            }
            self.delete_link(&spec.name).await?;
        }
        // The namespace has no network but ours, so an `eth0` there is a pair for an earlier address.
        inside.delete_link(CONTAINER_IFNAME).await?;
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(CONTAINER_IFNAME.to_owned())
            .address(spec.mac.to_vec())
            .mtu(spec.mtu)
            .setns_by_fd(netns.raw_fd())
            .build();
        let message = LinkVeth::new(&spec.name, CONTAINER_IFNAME)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .address(spec.host_mac.to_vec())
            .mtu(spec.mtu)
            .build();
        let added = self.handle.link().add(message).execute().await;
        added.map_err(NetlinkError::request("create link", &spec.name))?;
        let link = self.link(&spec.name).await?;
        Ok(link.ok_or_else(|| NetlinkError::NoLink(spec.name.clone()))?.ifindex)
    }

    /// Gives the container's end of a pair, which somebody renamed, its name back.
    async fn name_back(&self, host: &Link) -> Result<Option<Link>, NetlinkError> {
        let links = self.links().await?;
        let peer = |link: &&Link| host.peer == Some(link.ifindex) && link.peer == Some(host.ifindex);
        let Some(link) = links.iter().find(peer) else { return Ok(None) };
        // A device that is up keeps its name on older kernels.
        for message in [
            LinkUnspec::new_with_index(link.ifindex).down().build(),
            LinkUnspec::new_with_index(link.ifindex).name(CONTAINER_IFNAME.to_owned()).build(),
        ] {
            let set = self.handle.link().set(message).execute().await;
            set.map_err(NetlinkError::request("name back", &link.name))?;
        }
        self.link(CONTAINER_IFNAME).await
    }

    /// Whether `host` and `container` are the two ends of one pair, and that in `netns`.
    async fn is_pair(
        &self,
        host: &Link,
        container: Option<&Link>,
        spec: &VethSpec,
        netns: &Netns,
    ) -> Result<bool, NetlinkError> {
        let Some(container) = container else { return Ok(false) };
        let linked = host.is_veth
            && host.peer == Some(container.ifindex)
            && container.peer == Some(host.ifindex)
            && container.mac == spec.mac;
        Ok(linked && host.peer_netns.is_some() && host.peer_netns == self.netns_id(netns).await?)
    }

    /// The number this namespace has for another, when it has one.
    async fn netns_id(&self, netns: &Netns) -> Result<Option<i32>, NetlinkError> {
        let mut message = NsidMessage::default();
        message.attributes = vec![NsidAttribute::Fd(netns.raw_fd().unsigned_abs())];
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(message));
        request.header.flags = NLM_F_REQUEST;
        let object = format!("net:[{}]", netns.inode());
        let failed = |error| NetlinkError::request("look up the id of", object)(error);
        let mut responses = self.handle.clone().request(request).map_err(failed.clone())?;
        while let Some(response) = responses.next().await {
            match response.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(answer)) => {
                    return Ok(answer.attributes.iter().find_map(|attribute| match attribute {
                        NsidAttribute::Id(id) if *id >= 0 => Some(*id),
                        _ => None,
                    }));
                }
                NetlinkPayload::Error(error) => return Err(failed(rtnetlink::Error::NetlinkError(error))),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Removes a link; its absence is success.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn delete_link(&self, name: &str) -> Result<(), NetlinkError> {
        let Some(link) = self.link(name).await? else { return Ok(()) };
        match self.handle.link().del(link.ifindex).execute().await {
            Err(error) if errno(&error) == libc::ENODEV => Ok(()),
            result => result.map_err(NetlinkError::request("remove link", name)),
        }
    }
}

/// The address that a host end's name stands for.
pub(super) fn address_of(name: &str) -> Option<Ipv4Addr> {
    let hex = name.strip_prefix(VETH_PREFIX).filter(|hex| hex.len() == 8)?;
    let bits = u32::from_str_radix(hex, 16).ok()?;
    // The name must be exactly the one that skepd gives: `+` and capital letters parse as well.
    Some(Ipv4Addr::from_bits(bits)).filter(|address| veth_name(*address) == name)
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::LinkAttribute;

    use super::*;

    #[test]
    fn a_name_stands_for_its_address_and_no_other_name_does() {
        let address = Ipv4Addr::new(10, 208, 0, 5);
        assert_eq!(veth_name(address), "skep0ad00005");
        assert_eq!(address_of("skep0ad00005"), Some(address));
        for foreign in ["skep0AD00005", "skep+ad00005", "skep0ad0005", "skep0ad000050", "veth0ad00005", "skep"] {
            assert_eq!(address_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn macs_are_locally_administered_unicast_and_differ() {
        let address = Ipv4Addr::new(10, 208, 0, 5);
        assert_eq!(container_mac(address), [0x02, 0x53, 10, 208, 0, 5]);
        assert_eq!(host_mac(address), [0x06, 0x53, 10, 208, 0, 5]);
    }

    #[test]
    fn a_host_end_that_lacks_anything_is_not_as_wanted() {
        let spec = VethSpec::new(Ipv4Addr::new(10, 208, 0, 5), "fd53::5".parse().unwrap(), "shop", 1500);
        let addresses = [IpAddr::from(spec.address4), spec.address6.into()];
        let good = ObservedVeth {
            name: spec.name.clone(),
            ifindex: 7,
            address4: spec.address4,
            alias: spec.alias.clone(),
            host_mac: spec.host_mac,
            mtu: 1500,
            up: true,
            carrier: true,
            segments: SegmentSize::default(),
            tuned: true,
            peer_netns: Some(0),
            routes: addresses.to_vec(),
            neighbours: addresses.iter().map(|address| (*address, spec.mac)).collect(),
        };
        assert!(good.is_as(&spec));
        assert!(!ObservedVeth { mtu: 1400, ..good.clone() }.is_as(&spec));
        assert!(!ObservedVeth { up: false, ..good.clone() }.is_as(&spec));
        let mut segments = SegmentSize::default();
        segments.take(&LinkAttribute::GsoMaxSize(1_000));
        assert!(!ObservedVeth { segments, ..good.clone() }.is_as(&spec));
        assert!(!ObservedVeth { tuned: false, ..good.clone() }.is_as(&spec));
        assert!(!ObservedVeth { routes: vec![addresses[0]], ..good.clone() }.is_as(&spec));
        assert!(!ObservedVeth { neighbours: vec![(addresses[0], spec.mac)], ..good.clone() }.is_as(&spec));
        assert!(!ObservedVeth { neighbours: addresses.map(|a| (a, [0; 6])).to_vec(), ..good }.is_as(&spec));
    }
}
