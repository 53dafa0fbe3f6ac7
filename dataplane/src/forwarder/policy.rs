//! Names that never leave this machine.

use std::net::IpAddr;

use dataplane_ebpf::abi::{Addr, NodeConfig};
use hickory_proto::rr::Name;

use crate::model::name::ZONE;

/// Whether a question for `name` may be put to the host's name servers.
///
/// Not those of the zone, nor single labels, which are names of services or nothing; nor who has an address of the pools.
/// The kernel's answer covers them all; this holds even where that one passes a question on.
pub(super) fn may_leave(name: &Name, node: &NodeConfig) -> bool {
    let labels: Vec<&[u8]> = name.iter().collect();
    match labels.as_slice() {
        // The root: who serves it is no secret, and no service is called so.
        [] => true,
        [_] => false,
        [.., last] if last.eq_ignore_ascii_case(ZONE.as_bytes()) => false,
        _ => !name.parse_arpa_name().is_ok_and(|net| in_pools(node, net.addr())),
    }
}

fn in_pools(node: &NodeConfig, address: IpAddr) -> bool {
    let address = Addr::from(address);
    node.is_container(&address) || node.is_vip(&address)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use dataplane_ebpf::abi::Pool;

    use super::*;

    fn leaves(name: &str) -> bool {
        let node = NodeConfig {
            container_pools: [
                Pool::new("10.208.0.0".parse().unwrap(), 12),
                Pool::new("fd53:6b65:7000::".parse().unwrap(), 48),
            ],
            vip_pools: [Pool::new("10.224.0.0".parse().unwrap(), 16), Pool::default()],
            ..NodeConfig::default()
        };
        may_leave(&Name::from_str(name).unwrap(), &node)
    }

    #[test]
    fn names_of_the_outside_leave() {
        assert!(leaves("example.com."));
        assert!(leaves("internal.example.com."));
        assert!(leaves("8.8.8.8.in-addr.arpa."));
        assert!(leaves("."));
    }

    #[test]
    fn names_of_the_zone_never_leave() {
        assert!(!leaves("api.production.shop.internal."));
        assert!(!leaves("nobody.INTERNAL."));
        assert!(!leaves("internal."));
    }

    #[test]
    fn single_labels_never_leave() {
        assert!(!leaves("api."));
    }

    #[test]
    fn addresses_of_the_pools_never_leave() {
        assert!(!leaves("5.0.208.10.in-addr.arpa."));
        assert!(!leaves("9.9.224.10.in-addr.arpa."));
        assert!(!leaves("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.5.6.b.6.3.5.d.f.ip6.arpa."));
    }
}
