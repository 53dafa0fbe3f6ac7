//! One link of a dump, with the attributes that matter here.

use futures_util::{Stream, StreamExt, TryStreamExt};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, Inet6DevConf, InetDevConf, InfoKind, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkMessage, State,
};

use super::error::errno;
use super::{Change, Netlink, NetlinkError, SegmentSize, Uplink};

/// A link as it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Link {
    pub(super) ifindex: u32,
    pub(super) name: String,
    pub(super) alias: String,
    pub(super) mac: [u8; 6],
    pub(super) mtu: u32,
    pub(super) up: bool,
    pub(super) carrier: bool,
    /// The kernel has acted on the carrier: packets are sent, not discarded.
    pub(super) operational: bool,
    pub(super) is_veth: bool,
    /// Index of the peer in its namespace.
    pub(super) peer: Option<u32>,
    /// The peer's namespace, as this namespace numbers it.
    pub(super) peer_netns: Option<i32>,
    /// How much of a stream it takes at once.
    pub(super) segments: SegmentSize,
    /// Its IPv4 sysctls.
    pub(super) conf4: InetDevConf,
    /// Its IPv6 sysctls; all zero where IPv6 never was.
    pub(super) conf6: Inet6DevConf,
}

impl From<&LinkMessage> for Link {
    fn from(message: &LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            ifindex: message.header.index,
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            ..Self::default()
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
                LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
                LinkAttribute::OperState(state) => link.operational = *state == State::Up,
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Link(peer) => link.peer = Some(*peer),
                LinkAttribute::LinkNetNsId(netns) => link.peer_netns = Some(*netns),
                LinkAttribute::AfSpecUnspec(families) => link.take_sysctls(families),
                LinkAttribute::LinkInfo(info) => link.is_veth = info.contains(&LinkInfo::Kind(InfoKind::Veth)),
                other => link.segments.take(other),
            }
        }
        link
    }
}

impl Link {
    fn take_sysctls(&mut self, families: &[AfSpecUnspec]) {
        for family in families {
            match family {
                AfSpecUnspec::Inet(parts) => self.conf4 = parts.iter().find_map(conf4).unwrap_or_default(),
                AfSpecUnspec::Inet6(parts) => self.conf6 = parts.iter().find_map(conf6).unwrap_or_default(),
                _ => {}
            }
        }
    }

    /// Without a default route yet.
    pub(super) fn as_uplink(&self) -> Uplink {
        Uplink {
            ifindex: self.ifindex,
            name: self.name.clone(),
            mtu: self.mtu,
            ipv4: false,
            ipv6: false,
            router_advertisement: false,
        }
    }
}

fn conf4(part: &AfSpecInet) -> Option<InetDevConf> {
    match part {
        AfSpecInet::DevConf(conf) => Some(*conf),
        _ => None,
    }
}

fn conf6(part: &AfSpecInet6) -> Option<Inet6DevConf> {
    match part {
        AfSpecInet6::DevConf(conf) => Some(*conf),
        _ => None,
    }
}

impl Netlink {
    /// Every link.
    pub(super) async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let _turn = self.listing.lock().await;
        // What packets count is half of each message, and of no interest here.
        let request = self.handle.link().get().set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]);
        let messages = request.execute().map_ok(|message| Link::from(&message));
        messages.try_collect().await.map_err(NetlinkError::request("list", "links"))
    }

    /// One link, by name.
    pub(super) async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut messages = std::pin::pin!(self.handle.link().get().match_name(name).execute());
        match messages.try_next().await {
            Ok(message) => Ok(message.as_ref().map(Link::from)),
            Err(error) if errno(&error) == libc::ENODEV => Ok(None),
            Err(error) => Err(NetlinkError::request("look up link", name)(error)),
        }
    }

    /// Waits until a link is operational. `changes` must have been asked for before.
    pub(super) async fn until_operational(
        &self,
        name: &str,
        mut changes: impl Stream<Item = Change> + Unpin,
    ) -> Result<(), NetlinkError> {
        loop {
            let link = self.link(name).await?.ok_or_else(|| NetlinkError::NoLink(name.to_owned()))?;
            if link.operational || changes.next().await.is_none() {
                return Ok(());
            }
        }
    }
}
