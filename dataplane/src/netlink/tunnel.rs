//! The link of a tunnel.

use futures_util::TryStreamExt as _;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::{LinkUnspec, LinkWireguard};

use super::error::errno;
use super::{Netlink, NetlinkError};

/// What serves a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// The kernel's WireGuard.
    Wireguard,
    /// A process.
    Tun,
    /// None that a tunnel has.
    Other,
}

/// The link of a tunnel, as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelLink {
    /// Its index.
    pub ifindex: u32,
    /// What serves it.
    pub kind: LinkKind,
    /// Whether it takes packets.
    pub up: bool,
    /// Octets of an IP packet.
    pub mtu: u32,
    /// Packets that it received and that were wrong: with WireGuard, those whose source is not their sender's.
    pub rx_frame_errors: u64,
}

impl From<&LinkMessage> for TunnelLink {
    fn from(message: &LinkMessage) -> Self {
        let up = message.header.flags.contains(LinkFlags::Up);
        let mut link = Self { ifindex: message.header.index, kind: LinkKind::Other, up, mtu: 0, rx_frame_errors: 0 };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Stats64(stats) => link.rx_frame_errors = stats.rx_frame_errors,
                LinkAttribute::LinkInfo(info) if info.contains(&LinkInfo::Kind(InfoKind::Wireguard)) => {
                    link.kind = LinkKind::Wireguard;
                }
                LinkAttribute::LinkInfo(info) if info.contains(&LinkInfo::Kind(InfoKind::Tun)) => {
                    link.kind = LinkKind::Tun;
                }
                _ => {}
            }
        }
        link
    }
}

impl Netlink {
    /// The link of that name, if there is one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn tunnel_link(&self, name: &str) -> Result<Option<TunnelLink>, NetlinkError> {
        let mut messages = std::pin::pin!(self.handle.link().get().match_name(name).execute());
        match messages.try_next().await {
            Ok(message) => Ok(message.as_ref().map(TunnelLink::from)),
            Err(error) if errno(&error) == libc::ENODEV => Ok(None),
            Err(error) => Err(NetlinkError::request("look up link", name)(error)),
        }
    }

    /// Names of all devices of the kernel's WireGuard.
    ///
    /// # Errors
    /// When a dump fails.
    pub async fn wireguards(&self) -> Result<Vec<String>, NetlinkError> {
        let _turn = self.listing.lock().await;
        let failed = NetlinkError::request("list", "links");
        let messages: Vec<LinkMessage> = self.handle.link().get().execute().try_collect().await.map_err(failed)?;
        let devices = messages.iter().filter(|message| TunnelLink::from(*message).kind == LinkKind::Wireguard);
        let name = |message: &LinkMessage| {
            message.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            })
        };
        Ok(devices.filter_map(name).collect())
    }

    /// Makes a device of the kernel's WireGuard; it is down.
    ///
    /// # Errors
    /// When the kernel refuses: it has no WireGuard, or the name is taken.
    pub async fn make_wireguard(&self, name: &str) -> Result<(), NetlinkError> {
        let made = self.handle.link().add(LinkWireguard::new(name).build()).execute().await;
        made.map_err(NetlinkError::request("create link", name))
    }

    /// Sets the MTU of a link, in octets of an IP packet.
    ///
    /// # Errors
    /// [`NetlinkError::NoLink`], or when the kernel refuses.
    pub async fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), NetlinkError> {
        let link = self.tunnel_link(name).await?.ok_or_else(|| NetlinkError::NoLink(name.to_owned()))?;
        let message = LinkUnspec::new_with_index(link.ifindex).mtu(mtu).build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(NetlinkError::request("set the MTU of", name))
    }

    /// Has a tunnel's link take packets.
    ///
    /// # Errors
    /// [`NetlinkError::NoLink`], or when the kernel refuses.
    pub async fn tunnel_up(&self, name: &str) -> Result<(), NetlinkError> {
        self.set_up(name).await.map(drop)
    }
}
