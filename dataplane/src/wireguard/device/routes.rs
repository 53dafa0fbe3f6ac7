use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

/// Whose an address is: the owner of the longest prefix that it lies in.
#[derive(Debug)]
pub(super) struct Routes<T> {
    owners: HashMap<IpNet, T>,
    /// How many prefixes there are of each length. Clusters have one or two lengths of a family, so a look-up is as many
    /// look-ups in a hash table.
    lengths: BTreeMap<(bool, u8), usize>,
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self { owners: HashMap::new(), lengths: BTreeMap::new() }
    }
}

impl<T: Clone + PartialEq> Routes<T> {
    /// Gives a prefix to `owner`, whosever it was.
    pub(super) fn put(&mut self, prefix: IpNet, owner: T) {
        let prefix = prefix.trunc();
        if self.owners.insert(prefix, owner).is_none() {
            *self.lengths.entry(length(&prefix)).or_default() += 1;
        }
    }

    /// Takes everything that it has from `owner`.
    pub(super) fn remove(&mut self, owner: &T) {
        let Self { owners, lengths } = self;
        owners.retain(|prefix, of| {
            let keep = of != owner;
            if !keep && let Some(count) = lengths.get_mut(&length(prefix)) {
                *count -= 1;
            }
            keep
        });
        lengths.retain(|_, count| *count > 0);
    }

    /// Whose the address is.
    pub(super) fn find(&self, address: IpAddr) -> Option<&T> {
        let lengths = self.lengths.range((address.is_ipv6(), 0)..=(address.is_ipv6(), u8::MAX)).rev();
        lengths.map(|((_, length), _)| *length).find_map(|length| {
            let prefix = IpNet::new(address, length).ok()?;
            self.owners.get(&prefix.trunc())
        })
    }

    /// What `owner` has.
    pub(super) fn of(&self, owner: &T) -> impl Iterator<Item = &IpNet> {
        self.owners.iter().filter(move |(_, of)| *of == owner).map(|(prefix, _)| prefix)
    }
}

fn length(prefix: &IpNet) -> (bool, u8) {
    (prefix.addr().is_ipv6(), prefix.prefix_len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides_and_a_prefix_has_one_owner() {
        let mut routes = Routes::default();
        for (prefix, owner) in [("10.0.0.0/8", 1), ("10.2.0.0/24", 2), ("fd00::/64", 1), ("10.2.0.9/24", 3)] {
            routes.put(prefix.parse().unwrap(), owner);
        }
        let find = |routes: &Routes<i32>, address: &str| routes.find(address.parse().unwrap()).copied();
        assert_eq!(find(&routes, "10.1.0.1"), Some(1));
        assert_eq!(find(&routes, "10.2.0.1"), Some(3), "it was moved");
        assert_eq!(find(&routes, "fd00::7"), Some(1));
        assert_eq!(find(&routes, "fd00:1::7"), None);
        assert_eq!(find(&routes, "11.0.0.1"), None);
        assert_eq!(routes.of(&2).count(), 0);
        routes.remove(&3);
        assert_eq!(find(&routes, "10.2.0.1"), Some(1));
        routes.remove(&1);
        assert_eq!((find(&routes, "10.2.0.1"), routes.lengths.len()), (None, 0));
    }
}
