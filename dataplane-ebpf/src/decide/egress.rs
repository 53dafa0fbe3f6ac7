//! Where a replica may go beyond the cluster.

use crate::{
    abi::{Addr, Identity, Listed, Reason, action, flags},
    tables::Tables,
};

/// The rule of EGRESS that lets a replica of this identity, with these [`flags`], go to `addr`.
///
/// # Errors
/// Why it may not.
#[inline(always)]
pub fn egress(tables: &impl Tables, who: Identity, flags: u32, addr: &Addr) -> Result<u32, Reason> {
    if flags & flags::EGRESS == 0 {
        return Err(Reason::EgressOff);
    }
    let rule = tables.egress(addr).ok_or(Reason::EgressDenied)?;
    let list = flags::list(flags);
    match rule.action {
        action::ALLOW if list == 0 => Ok(rule.rule),
        action::ALLOW | action::LISTED if list != 0 => {
            match tables.listed(&Listed { service: who.service, list, addr: *addr }) {
                Some(listed) if listed.action == action::ALLOW => Ok(rule.rule),
                _ => Err(Reason::NotListed),
            }
        }
        _ => Err(Reason::EgressDenied),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        abi::{EgressKey, EgressRule, ListKey},
        tables::fake::Fake,
    };

    const WHO: Identity = Identity { env: 1, service: 10 };
    const RULE: u32 = 5;

    /// A prefix of an address of few: overlaps are the rule.
    fn prefix() -> impl Strategy<Value = (u32, u32)> {
        (0..256_u32, 0..=8_u32).prop_map(|(octet, len)| (octet & !(0xff_u32 >> len), len))
    }

    fn addr(octet: u32) -> Addr {
        Ipv4Addr::new(11, 0, 0, octet as u8).into()
    }

    fn contains((prefix, len): (u32, u32), octet: u32) -> bool {
        (prefix ^ octet) >> (8 - len) == 0
    }

    proptest! {
        /// Whoever has a list goes nowhere but where its own list leads, and never where everybody is denied.
        #[test]
        fn a_list_opens_what_it_names_and_nothing_else(
            own in proptest::collection::vec(prefix(), 0..4),
            others in proptest::collection::vec((prefix(), 9..12_u32, 1..4_u32), 0..8),
            listed in proptest::option::of(prefix()),
            denied in proptest::option::of(prefix()),
            octet in 0..256_u32,
            list in 0..3_u16,
        ) {
            let mut fake = Fake::default();
            let rule = |action, rule| EgressRule { action, rule };
            let key = |(octet, len): (u32, u32)| EgressKey { prefix_len: 120 + len, addr: addr(octet) };
            fake.egress.push((EgressKey { prefix_len: 0, addr: Addr::NONE }, rule(action::ALLOW, RULE)));
            fake.egress.extend(listed.map(|prefix| (key(prefix), rule(action::LISTED, RULE + 1))));
            // Of two rules for one prefix there is only the last.
            fake.egress.extend(denied.filter(|it| Some(*it) != listed).map(|prefix| (key(prefix), rule(action::DENY, RULE + 2))));
            let entry = |service, list, prefix: (u32, u32)| {
                let EgressKey { prefix_len, addr } = key(prefix);
                (ListKey { prefix_len: prefix_len + ListKey::HEAD, listed: Listed { service, list, addr } }, rule(action::ALLOW, 1))
            };
            let foreign = others.iter().filter(|(_, service, number)| (*service, *number) != (WHO.service, u32::from(list)));
            fake.lists.extend(foreign.map(|(prefix, service, number)| entry(*service, *number, *prefix)));
            fake.lists.extend(own.iter().filter(|_| list != 0).map(|prefix| entry(WHO.service, list.into(), *prefix)));

            let longest = |prefix: Option<(u32, u32)>| prefix.filter(|it| contains(*it, octet)).map(|(_, len)| len as i32);
            let (by_list, by_denial) = (longest(listed).unwrap_or(-1), longest(denied.filter(|it| Some(*it) != listed)).unwrap_or(-1));
            let expected = if by_denial > by_list || list == 0 && by_list >= 0 {
                Err(Reason::EgressDenied)
            } else if list != 0 && !own.iter().any(|prefix| contains(*prefix, octet)) {
                Err(Reason::NotListed)
            } else {
                Ok(if by_list >= 0 { RULE + 1 } else { RULE })
            };
            let flags = flags::EGRESS | flags::of_list(list);
            prop_assert_eq!(egress(&fake, WHO, flags, &addr(octet)), expected);
            prop_assert_eq!(egress(&fake, WHO, flags & !flags::EGRESS, &addr(octet)), Err(Reason::EgressOff));
        }
    }
}
