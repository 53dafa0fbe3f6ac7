//! What a stream socket remembers of its VIP: its mark (`SO_MARK`).
//!
//! Socket storage takes two allocations and their return for each connection, two thirds of all that a connect to a VIP
//! costs; the mark is there already. It stays inside the network namespace: veth takes it off each packet that changes
//! namespaces (`skb_scrub_packet`). Within, `ss -e` shows it: `fwmark:0xae00007` is 10.224.0.7.
//!
//! A program may have marks of its own (`CAP_NET_ADMIN`). A socket that has one keeps it, and is remembered in SOCKETS,
//! as datagram sockets are.

use crate::abi::{Addr, NodeConfig, ServiceKey};
use crate::tables::Tables;

/// The mark of a VIP: the last 32 bits of its address, host order. `None` for one that they do not tell from all others
/// of its pool.
#[inline(always)]
pub fn mark_of(node: &NodeConfig, vip: &Addr) -> Option<u32> {
    let mark = u32::from_be(vip.0[3]);
    (mark != 0 && address(node, mark, vip.is_v4()) == *vip).then_some(mark)
}

/// The VIP of that mark and family, if it is one of the environment that the namespace of this cookie belongs to: a mark
/// that a program made up can name nothing that it could not ask for.
#[inline(always)]
pub fn vip_of(tables: &impl Tables, cookie: u64, mark: u32, v4: bool) -> Option<Addr> {
    let vip = address(tables.node()?, mark, v4);
    let Ok(Some(netns)) = tables.netns(cookie) else { return None };
    match tables.service(&ServiceKey { env: netns.identity.env, vip }) {
        Ok(Some(_)) => Some(vip),
        _ => None,
    }
}

#[inline(always)]
fn address(node: &NodeConfig, mark: u32, v4: bool) -> Addr {
    let [a, b, c, _] = node.vip_pools[1].network.0;
    if v4 { Addr::from_v4_word(mark.to_be()) } else { Addr([a, b, c, mark.to_be()]) }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::abi::{Identity, Netns, Pool, Service};
    use crate::tables::fake::Fake;

    const COOKIE: u64 = 7;

    fn pools(v6: &str, length: u8) -> NodeConfig {
        let vip_pools = [Pool::new(Ipv4Addr::new(10, 224, 0, 0).into(), 16), Pool::new(v6.parse().unwrap(), length)];
        NodeConfig { vip_pools, ..NodeConfig::default() }
    }

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_mark_reads_as_the_address() {
        let node = pools("fd53:6b65:7001::", 64);
        assert_eq!(mark_of(&node, &addr("10.224.0.7")), Some(0x0ae0_0007));
        assert_eq!(mark_of(&node, &addr("fd53:6b65:7001::1:2")), Some(0x0001_0002));
    }

    #[test]
    fn an_address_that_32_bits_do_not_tell_has_none() {
        let node = pools("fd53:6b65:7001::", 64);
        assert_eq!(mark_of(&node, &addr("fd53:6b65:7001::1:0:2")), None);
        assert_eq!(mark_of(&node, &addr("fd53:6b65:7001::")), None, "no mark is zero");
    }

    #[test]
    fn a_mark_names_services_of_the_own_environment_alone() {
        let mut fake = Fake { node: Some(pools("fd53:6b65:7001::", 64)), ..Fake::default() };
        let identity = Identity { env: 1, service: 10 };
        fake.netns.insert(COOKIE, Netns { identity, ..Netns::default() });
        for (env, vip) in [(1, "10.224.0.7"), (2, "10.224.0.8"), (1, "fd53:6b65:7001::7"), (2, "fd53:6b65:7001::8")] {
            fake.services.insert(ServiceKey { env, vip: addr(vip) }, Service::default());
        }
        for (own, other) in [("10.224.0.7", "10.224.0.8"), ("fd53:6b65:7001::7", "fd53:6b65:7001::8")] {
            let back = |text: &str, cookie| {
                let (vip, node) = (addr(text), fake.node.unwrap());
                vip_of(&fake, cookie, mark_of(&node, &vip).unwrap(), vip.is_v4())
            };
            assert_eq!(back(own, COOKIE), Some(addr(own)));
            assert_eq!(back(other, COOKIE), None);
            assert_eq!(back(own, COOKIE + 1), None, "a namespace that is no replica's");
        }
        assert_eq!(vip_of(&fake, COOKIE, 1, true), None);
    }
}
