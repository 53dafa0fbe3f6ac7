//! How much of a stream sockets give a device at once.

use netlink_packet_route::link::LinkAttribute;
use rtnetlink::LinkUnspec;

use super::link::Link;
use super::{Netlink, NetlinkError};

/// Octets: `GSO_LEGACY_MAX_SIZE`, what the length of an IP packet can say, and the most that a TUN device takes.
pub const GSO_LEGACY_MAX: u32 = 65_536;

/// How long the packets are, in octets, that a device takes unsegmented, and that sockets give it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SegmentSize {
    /// That it takes; unknown before Linux 5.19.
    tso_max: Option<u32>,
    /// Of IPv4, that sockets give it; unknown before Linux 6.3.
    gso_max4: Option<u32>,
    /// Of another family.
    gso_max: Option<u32>,
}

impl SegmentSize {
    /// Learns it from an attribute of the link, if that is one that tells.
    pub(super) fn take(&mut self, attribute: &LinkAttribute) {
        match attribute {
            LinkAttribute::TsoMaxSize(octets) => self.tso_max = Some(*octets),
            LinkAttribute::GsoMaxSize(octets) => self.gso_max = Some(*octets),
            LinkAttribute::GsoIpv4MaxSize(octets) => self.gso_max4 = Some(*octets),
            _ => {}
        }
    }

    /// Whether sockets give it as much at once as it takes, up to `limit` octets; where the kernel knows no such thing,
    /// they do.
    pub fn is_largest(&self, limit: u32) -> bool {
        self.gso_max4 == self.largest4(limit) && self.gso_max.is_none_or(|given| given == self.largest(limit))
    }

    /// What sockets are to give it of IPv4.
    fn largest4(&self, limit: u32) -> Option<u32> {
        self.gso_max4.map(|given| self.tso_max.map_or(given, |takes| takes.min(limit)))
    }

    /// What sockets are to give it of other families: as much as every kernel allows.
    fn largest(&self, limit: u32) -> u32 {
        self.tso_max.unwrap_or(GSO_LEGACY_MAX).min(GSO_LEGACY_MAX).min(limit)
    }
}

impl Netlink {
    /// Lets TCP over IPv4 give a device as much at once as it takes ("BIG TCP", Linux 6.3), up to `limit` octets, instead
    /// of 64 KiB. Between two containers nothing ever cuts such a packet up; where it leaves the machine, the stack does.
    ///
    /// IPv6 stays at 64 KiB: Linux 6.18 gives such packets an extension header of eight octets for itself, counts it when
    /// it compares their segments with the MTU of the way out, and forwards none.
    pub(super) async fn put_segment_size(&self, link: &Link, limit: u32) -> Result<(), NetlinkError> {
        let size = link.segments;
        if size.is_largest(limit) {
            return Ok(());
        }
        let mut message = LinkUnspec::new_with_index(link.ifindex).build();
        // In this order: the kernel takes the first for IPv4 as well.
        message.attributes.push(LinkAttribute::GsoMaxSize(size.largest(limit)));
        message.attributes.extend(size.largest4(limit).map(LinkAttribute::GsoIpv4MaxSize));
        let set = self.handle.link().set(message).execute().await;
        set.map_err(NetlinkError::request("set the segment size of", &link.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_counts_and_so_does_what_the_kernel_knows() {
        const VETH: u32 = 524_280;
        let is_largest = |attributes: &[LinkAttribute], limit| {
            let mut size = SegmentSize::default();
            attributes.iter().for_each(|attribute| size.take(attribute));
            size.is_largest(limit)
        };
        let fresh = [
            LinkAttribute::TsoMaxSize(VETH),
            LinkAttribute::GsoMaxSize(GSO_LEGACY_MAX),
            LinkAttribute::GsoIpv4MaxSize(GSO_LEGACY_MAX),
        ];
        assert!(!is_largest(&fresh, u32::MAX));
        assert!(is_largest(&fresh, GSO_LEGACY_MAX));
        let [takes, given, _] = &fresh;
        let raised = [takes.clone(), given.clone(), LinkAttribute::GsoIpv4MaxSize(VETH)];
        assert!(is_largest(&raised, u32::MAX));
        assert!(!is_largest(&raised, GSO_LEGACY_MAX));
        for older in [&fresh[..2], &fresh[1..2], &[]] {
            assert!(is_largest(older, u32::MAX), "{older:?}");
        }
        assert!(!is_largest(&[takes.clone(), LinkAttribute::GsoMaxSize(1_000)], u32::MAX));
    }
}
