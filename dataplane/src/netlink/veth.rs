use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;

use super::{Netlink, NetlinkError, Netns};

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
}

impl VethSpec {
    /// Name and MACs follow from the IPv4 address.
    pub fn new(address4: Ipv4Addr, address6: Ipv6Addr, alias: impl Into<String>, mtu: u32) -> Self {
        Self {
            name: veth_name(address4),
            alias: alias.into(),
            mac: container_mac(address4),
            host_mac: host_mac(address4),
            address4,
            address6,
            mtu,
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
    /// Destinations of skepd's routes that lead to it, with the metric they have.
    pub routes: Vec<std::net::IpAddr>,
    /// Permanent neighbours on it.
    pub neighbours: Vec<(std::net::IpAddr, [u8; 6])>,
}

impl ObservedVeth {
    /// Whether [`Netlink::ensure_host_side`] would change nothing.
    pub fn is_as(&self, spec: &VethSpec) -> bool {
        let addresses = [spec.address4.into(), spec.address6.into()];
        self.name == spec.name
            && self.alias == spec.alias
            && self.host_mac == spec.host_mac
            && self.mtu == spec.mtu
            && self.up
            && addresses.iter().all(|address| self.routes.contains(address))
            && addresses.iter().all(|address| self.neighbours.contains(&(*address, spec.mac)))
    }
}

impl Netlink {
    /// The host ends whose addresses are in `pool`, that is, this daemon's and not a neighbour daemon's.
    ///
    /// # Errors
    /// When a dump fails.
    pub async fn veths(&self, pool: Ipv4Net) -> Result<Vec<ObservedVeth>, NetlinkError> {
        let _ = pool;
        unimplemented!()
    }

    /// Makes the pair, the container's end inside `netns`, both ends down; a pair of that name that
    /// leads to another namespace is replaced. Returns the host end's ifindex.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn create_veth(&self, spec: &VethSpec, netns: &Netns) -> Result<u32, NetlinkError> {
        let _ = (spec, netns);
        unimplemented!()
    }

    /// Removes a link; its absence is success.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn delete_link(&self, name: &str) -> Result<(), NetlinkError> {
        let _ = name;
        unimplemented!()
    }
}
