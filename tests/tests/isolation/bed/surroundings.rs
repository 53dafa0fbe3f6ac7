use std::fs;

use tests::netns::Namespace;

use super::namespace::ip;

/// What the node is connected to besides its containers. The "public" addresses belong to nobody here; nothing leaves.
pub(crate) struct Surroundings {
    /// Ifindex of the node's way out.
    pub(crate) uplink: u32,
    /// A neighbour on the LAN and router to the internet: 11.0.0.1, 2a00:5ce9::1; public servers 11.1.0.1,
    /// 2a00:5ce9:1::1; and behind it, wrongly reachable, 192.168.77.1, 169.254.169.254, fd00:5ce9::1.
    pub(crate) lan: Namespace,
    /// Something in another network of the node, as on a Docker bridge: 172.17.0.2, fd00:d0c::2, and, with a public
    /// address, 11.2.0.2, 2a00:5ce9:2::2.
    pub(crate) bridged: Namespace,
}

impl Surroundings {
    /// In the calling thread's namespace, which becomes the node.
    pub(super) fn new() -> anyhow::Result<Self> {
        let (lan, bridged) = (Namespace::new()?, Namespace::new()?);
        ip(&format!(
            "link set lo up
             link add uplink0 type veth peer name eth0 netns {lan}
             addr add 11.0.0.10/24 dev uplink0
             addr add 2a00:5ce9::10/64 dev uplink0 nodad
             link set uplink0 up
             link add bridge0 type veth peer name eth0 netns {bridged}
             addr add 172.17.0.1/16 dev bridge0
             addr add 11.2.0.1/24 dev bridge0
             addr add fd00:d0c::1/64 dev bridge0 nodad
             addr add 2a00:5ce9:2::1/64 dev bridge0 nodad
             link set bridge0 up",
            lan = lan.path().display(),
            bridged = bridged.path().display(),
        ))?;
        lan.enter(|| {
            ip("link set lo up
                addr add 11.0.0.1/24 dev eth0
                addr add 2a00:5ce9::1/64 dev eth0 nodad
                link set eth0 up
                addr add 11.1.0.1/32 dev lo
                addr add 192.168.77.1/32 dev lo
                addr add 169.254.169.254/32 dev lo
                addr add 2a00:5ce9:1::1/128 dev lo
                addr add fd00:5ce9::1/128 dev lo
                route add default via 11.0.0.10
                -6 route add default via 2a00:5ce9::10")
        })?;
        bridged.enter(|| {
            ip("link set lo up
                addr add 172.17.0.2/16 dev eth0
                addr add 11.2.0.2/24 dev eth0
                addr add fd00:d0c::2/64 dev eth0 nodad
                addr add 2a00:5ce9:2::2/64 dev eth0 nodad
                link set eth0 up
                route add default via 172.17.0.1
                -6 route add default via fd00:d0c::1")
        })?;
        ip("route add default via 11.0.0.1
            -6 route add default via 2a00:5ce9::1")?;
        // The node forwards, as Docker makes every host do.
        fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
        // "Unreachable" is said each time, not once a second: whoever asks need not wait.
        fs::write("/proc/sys/net/ipv4/icmp_ratelimit", "0")?;
        fs::write("/proc/sys/net/ipv6/icmp/ratelimit", "0")?;
        let uplink = nix::net::if_::if_nametoindex("uplink0")?;
        Ok(Self { uplink, lan, bridged })
    }
}
