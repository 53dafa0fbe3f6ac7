use std::time::Duration;

use netlink_packet_route::address::AddressScope;
use rtnetlink::LinkUnspec;

use super::link::Link;
use super::routes::{Via, host_address, route};
use super::{CONTAINER_IFNAME, GATEWAY4, GATEWAY6, Netlink, NetlinkError, Netns, VethSpec, sysctl};

/// Longest time from "up" to "operational" on a busy machine.
const READY: Duration = Duration::from_secs(10);

impl Netlink {
    /// Makes the container's side so: sysctls first, then addresses, routes and neighbours, both links up.
    ///
    /// # Errors
    /// When the kernel refuses a part; nothing is undone, the next call goes on from there.
    pub async fn plumb_container(netns: &Netns, spec: &VethSpec) -> Result<(), NetlinkError> {
        // Docker turns IPv6 off in a namespace without networks; addresses are refused until it is on.
        netns.run(|| set_sysctls(&["lo", CONTAINER_IFNAME])).await?;
        let inside = netns.netlink().await?;
        inside.set_up("lo").await?;
        let link = inside.set_up(CONTAINER_IFNAME).await?;
        let ifindex = link.ifindex;
        inside.take_big(&link).await?;
        for address in [spec.address4.into(), spec.address6.into()] {
            let message = host_address(ifindex, address, AddressScope::Universe);
            inside.put_address(message, &format!("{address} of {}", spec.name)).await?;
        }
        let hops = [(GATEWAY4.into(), spec.address4.into()), (GATEWAY6.into(), spec.address6.into())];
        for (gateway, source) in hops {
            inside.put_neighbour(ifindex, gateway, spec.host_mac).await?;
            inside.put_default_route(ifindex, gateway, source).await?;
        }
        Ok(())
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

    async fn put_default_route(
        &self,
        ifindex: u32,
        gateway: std::net::IpAddr,
        source: std::net::IpAddr,
    ) -> Result<(), NetlinkError> {
        let on_link = route(gateway.into(), Via::Link(ifindex), None);
        self.put_route(on_link, &gateway.to_string()).await?;
        let everything = if gateway.is_ipv4() { [0_u8; 4].into() } else { std::net::IpAddr::from([0_u8; 16]) };
        let everything = ipnet::IpNet::new_assert(everything, 0);
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
