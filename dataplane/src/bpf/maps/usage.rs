//! How full the maps are.

use dataplane_ebpf::abi::map;

use super::{BpfError, Maps};

/// From this share of a map's capacity on, in percent, people are told.
const NEARLY_FULL: usize = 80;

/// How full a map is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapUsage {
    /// The map.
    pub name: &'static str,
    /// Entries in it.
    pub entries: usize,
    /// Entries that it can hold.
    pub capacity: usize,
}

impl MapUsage {
    /// In percent of the capacity, rounded down.
    pub fn percent(&self) -> usize {
        self.entries.saturating_mul(100) / self.capacity.max(1)
    }

    /// What to do about a map that is nearly full; `None` for one that is not, or is meant to be.
    pub fn remedy(&self) -> Option<&'static str> {
        let remedy = self.larger()?;
        (self.percent() >= NEARLY_FULL).then_some(remedy)
    }

    /// How to get a larger one.
    fn larger(&self) -> Option<&'static str> {
        match self.name {
            map::DEVICES | map::NETNS => Some("remove replicas, or start skepd with a larger --max-replicas"),
            map::ENDPOINTS | map::BACKENDS | map::PTRS => {
                Some("remove replicas, or start skepd with a larger --max-endpoints")
            }
            map::NODES => Some("remove nodes: no cluster has more"),
            map::SERVICES | map::NAMES => Some("remove services, or start skepd with a larger --max-services"),
            // What has no entry there is not counted, and goes its way all the same.
            map::COUNTERS | map::DROPS => Some("start skepd with a larger --max-replicas: what is new is not counted"),
            map::GRANTS | map::EGRESS => Some("remove rules"),
            map::EGRESS_LISTS => Some("name fewer prefixes, or wider ones, in x-skep.egress of this node's services"),
            // FLOWS gives its oldest entry for a new one, BUDGETS has one for each of DEVICES, NODE is one entry.
            _ => None,
        }
    }
}

impl Maps {
    /// How full each map is that has a capacity. Counted, so it costs as much as reading them.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn usage(&self) -> Result<Vec<MapUsage>, BpfError> {
        macro_rules! usage {
            ($($table:ident),* $(,)?) => {
                vec![$(MapUsage {
                    name: self.$table.name(),
                    entries: self.$table.usage()?,
                    capacity: self.$table.capacity(),
                }),*]
            };
        }
        Ok(usage![
            devices, netns, endpoints, nodes, services, backends, names, ptrs, grants, egress, lists, flows, budgets,
            counters, drops,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_nearly_full_from_four_fifths_on_unless_it_is_meant_to_be() {
        let usage = |name, entries| MapUsage { name, entries, capacity: 1_000 };
        assert_eq!(usage(map::SERVICES, 799).remedy(), None);
        assert!(usage(map::SERVICES, 800).remedy().is_some_and(|remedy| remedy.contains("--max-services")));
        assert_eq!(usage(map::FLOWS, 1_000).remedy(), None);
    }
}
