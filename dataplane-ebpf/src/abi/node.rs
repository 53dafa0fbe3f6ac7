use super::{
    Addr, Pool,
    seal::{Sealed, pod},
    values::sealed,
};

/// How many uplinks a node may have.
pub const UPLINKS_MAX: usize = 8;

/// The one value of NODE: what the programs must know about this node.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeConfig {
    /// Addresses of replicas, IPv4 then IPv6.
    pub container_pools: [Pool; 2],
    /// Addresses of services, IPv4 then IPv6.
    pub vip_pools: [Pool; 2],
    /// Cluster DNS address (v4-mapped).
    pub dns: Addr,
    /// Devices through which traffic may leave the cluster, ifindexes in host order, zero-filled.
    pub uplinks: [u32; UPLINKS_MAX],
    /// Mark that skepd's own sockets carry, host order, within `mark_mask`.
    pub host_mark: u32,
    /// Mark that `from_container` gives to what it passes to the stack, host order, within `mark_mask`.
    pub pass_mark: u32,
    /// The bits of the mark that are Skep's.
    pub mark_mask: u32,
    /// Raised whenever policy changes, so that remembered flows of the old policy end.
    pub epoch: u32,
    /// This node's id.
    pub node: u32,
    /// Zero.
    pub pad: u32,
}

/// Value of NODES: the way to the replicas of another node.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Node {
    /// The tunnel device that leads there, an ifindex in host order; 0: there is none now.
    pub ifindex: u32,
    /// Octets of the largest IP packet that fits through the tunnel, host order; 1,280 at least, as IPv6 has no less.
    pub mtu: u32,
    /// See [`super::Sealed`].
    pub seal: u64,
}

pod! {
    NodeConfig: 200,
    Node: 16,
}

sealed! {
    Node: seal,
}

impl NodeConfig {
    /// Whether `addr` is one of a replica, given out or not.
    #[inline(always)]
    pub fn is_container(&self, addr: &Addr) -> bool {
        self.container_pools[0].contains(addr) || self.container_pools[1].contains(addr)
    }

    /// Whether `addr` is one of a service, given out or not.
    #[inline(always)]
    pub fn is_vip(&self, addr: &Addr) -> bool {
        self.vip_pools[0].contains(addr) || self.vip_pools[1].contains(addr)
    }

    /// Whether traffic may leave through `ifindex`.
    #[inline(always)]
    pub fn is_uplink(&self, ifindex: u32) -> bool {
        let mut i = 0;
        while i < UPLINKS_MAX {
            if self.uplinks[i] == ifindex {
                return ifindex != 0;
            }
            i += 1;
        }
        false
    }
}
