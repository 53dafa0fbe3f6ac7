use std::net::IpAddr;
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use netlink_packet_route::address::AddressScope;
use rtnetlink::LinkUnspec;

use super::link::Link;
use super::routes::{Via, host_address, route};
use super::{CONTAINER_IFNAME, Netlink, NetlinkError, Netns, Part, VethSpec, sysctl};

/// Longest time from "up" to "operational" on a busy machine.
const READY: Duration = Duration::from_secs(10);

impl Netlink {
    /// Makes the container's side so: sysctls first, then addresses, routes and neighbours, both links up. What is
    /// there as wanted is not touched.
    ///
    /// # Errors
    /// When the kernel refuses a part; nothing is undone, the next call goes on from there.
    pub async fn plumb_container(netns: &Netns, spec: &VethSpec) -> Result<(), NetlinkError> {
        // Docker turns IPv6 off in a namespace without networks; addresses are refused until it is on.
        netns.run(|| set_sysctls(&["lo", CONTAINER_IFNAME])).await?;
        let inside = netns.netlink().await?;
        inside.set_up("lo").await?;
        let link = inside.link(CONTAINER_IFNAME).await?;
        let link = link.ok_or_else(|| NetlinkError::NoLink(CONTAINER_IFNAME.to_owned()))?;
        // A link that is set up or down takes or loses routes by that alone.
        if !link.up || link.mtu != spec.mtu || link.mac != spec.mac {
            inside.put_link(link.ifindex, spec).await?;
        }
        inside.put_segment_size(&link, spec.segment_max).await?;
        for part in inside.inside().await?.lacks(spec) {
            inside.put_part(part, link.ifindex, spec).await?;
        }
        Ok(())
    }

    async fn put_link(&self, ifindex: u32, spec: &VethSpec) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(ifindex).mtu(spec.mtu).address(spec.mac.to_vec()).up().build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(NetlinkError::request("set up", CONTAINER_IFNAME))
    }

    async fn put_part(&self, part: Part, ifindex: u32, spec: &VethSpec) -> Result<(), NetlinkError> {
        match part {
            Part::Address(address) => {
                let message = host_address(ifindex, address, AddressScope::Universe);
                self.put_address(message, &format!("{address} of {}", spec.name)).await
            }
            Part::Neighbour(gateway) => self.put_neighbour(ifindex, gateway, spec.host_mac).await,
            Part::OnLink(gateway) => {
                self.put_route(route(gateway.into(), Via::Link(ifindex), None), &gateway.to_string()).await
            }
            Part::Default(gateway) => self.put_default_route(ifindex, gateway, spec).await,
            // Made already, or gone again meanwhile: then the next look tells.
            Part::Loopback | Part::Device | Part::Sysctls | Part::Link | Part::SegmentSize => Ok(()),
        }
    }

    /// Waits until both ends send what they are given. Of two ends, the one that is set up first learns
    /// of its carrier from a kernel worker some time after the second; until then it discards packets.
    ///
    /// # Errors
    /// [`NetlinkError::NotReady`] when that takes seconds: one end is down.
    pub async fn until_ready(&self, netns: &Netns, spec: &VethSpec) -> Result<(), NetlinkError> {
        let inside = netns.netlink().await?;
        let inside_changes = netns.changes().await?;
        let host_changes = Self::changes()?;
        let both = async {
            self.until_operational(&spec.name, host_changes).await?;
            inside.until_operational(CONTAINER_IFNAME, inside_changes).await
        };
        let late = |_| NetlinkError::NotReady(spec.name.clone());
        tokio::time::timeout(READY, both).await.map_err(late)?
    }

    async fn put_default_route(&self, ifindex: u32, gateway: IpAddr, spec: &VethSpec) -> Result<(), NetlinkError> {
        let (everything, source) = match gateway {
            IpAddr::V4(_) => (Ipv4Net::default().into(), spec.address4.into()),
            IpAddr::V6(_) => (Ipv6Net::default().into(), spec.address6.into()),
        };
        let default = route(everything, Via::Gateway(ifindex, gateway), Some(source));
        self.put_route(default, &format!("default via {gateway}")).await
    }

    /// Sets a link up; returns it as it was.
    pub(super) async fn set_up(&self, name: &str) -> Result<Link, NetlinkError> {
        let link = self.link(name).await?.ok_or_else(|| NetlinkError::NoLink(name.to_owned()))?;
        if !link.up {
            let message = LinkUnspec::new_with_index(link.ifindex).up().build();
            self.handle.link().set(message).execute().await.map_err(NetlinkError::request("set up", name))?;
        }
        Ok(link)
    }
}

fn set_sysctls(ifnames: &[&str]) -> Result<(), NetlinkError> {
    for ifname in ifnames {
        for (key, value) in sysctl::for_container(ifname) {
            sysctl::ensure(&key, value)?;
        }
    }
    Ok(())
}
