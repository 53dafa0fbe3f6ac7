//! Ids, VIPs, node prefixes and replica addresses: who gets which, and when one may be given out again.
//!
//! In use is what an assignment says; see [`crate::model::allocation`] for what the records add to that.
//! The search is next-fit, so that a released address is the last to come back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::Serialize;

use super::clock::Clock;
use super::placement::Placement;
use super::set;
use super::state::State;
use crate::model::allocation::{AddressPool, DNS_OFFSET, Ids, PrefixPool, REST_SECONDS, nth4, nth6};
use crate::model::{Condition, NodeRecord, Pools, ReplicaAssignment, ReplicaKey, ServiceSpec, VolumeAssignment};
use crate::store::schema::{self, Key, Versioned};
use crate::store::{StoreError, Txn};

/// Addresses in a node's IPv4 prefix.
const PREFIX_SIZE: u32 = 256;
/// Its length.
const PREFIX_LEN4: u8 = 24;
/// Length of a node's IPv6 prefix.
const PREFIX_LEN6: u8 = 64;

/// The allocation records while a transaction is being made.
pub(super) struct Allocator<'a> {
    state: &'a State,
    pools: &'a Pools,
    clock: Clock,
    ids: Ids,
    prefixes: PrefixPool,
    vips: AddressPool,
    nodes: BTreeMap<String, Node>,
    /// Offsets of the assigned VIPs; counted when one is wanted.
    vips_used: Option<BTreeSet<u32>>,
    /// Whether each node's `used` has been counted.
    nodes_counted: bool,
    placement: Placement<'a>,
}

/// A node's share.
struct Node {
    record: NodeRecord,
    pool: AddressPool,
    used: BTreeSet<u32>,
}

/// Where a replica goes.
pub(super) struct Placed {
    pub(super) node: String,
    pub(super) address4: Ipv4Addr,
    pub(super) address6: Ipv6Addr,
}

impl<'a> Allocator<'a> {
    pub(super) fn new(state: &'a State, pools: &'a Pools, clock: Clock) -> Self {
        let node = |(name, record): (&String, &Versioned<NodeRecord>)| {
            let pool = state.addresses.get(name).map(|pool| pool.value.clone()).unwrap_or_default();
            (name.clone(), Node { record: record.value.clone(), pool, used: BTreeSet::new() })
        };
        Self {
            state,
            pools,
            clock,
            ids: state.ids.as_ref().map_or_else(Ids::default, |ids| ids.value),
            prefixes: state.prefixes.as_ref().map_or_else(PrefixPool::default, |prefixes| prefixes.value),
            vips: state.vips.as_ref().map(|vips| vips.value.clone()).unwrap_or_default(),
            nodes: state.nodes.iter().map(node).collect(),
            vips_used: None,
            nodes_counted: false,
            placement: Placement::new(state),
        }
    }

    pub(super) fn environment_id(&mut self) -> u32 {
        next_id(&mut self.ids.environment)
    }

    pub(super) fn service_id(&mut self) -> u32 {
        next_id(&mut self.ids.service)
    }

    /// A VIP of each family, at the same offset of their pools.
    pub(super) fn vip(&mut self) -> Result<(Ipv4Addr, Ipv6Addr), Condition> {
        let pool = self.pools.vip4;
        let services = self.state.services.values();
        let used = self
            .vips_used
            .get_or_insert_with(|| services.filter_map(|service| offset_in(pool, service.value.vip4)).collect());
        let size = size_of(pool);
        let usable = |offset| offset != 0 && offset != size - 1 && offset != DNS_OFFSET;
        let found = take(&mut self.vips, used, size, self.clock, usable);
        let (used, resting) = (used.len(), self.vips.resting.len());
        found.map(|offset| self.pools.vip(offset)).ok_or_else(|| Condition {
            message: format!("no VIP is free in {pool}: {used} are in use, {resting} rest after release"),
            remedy: format!(
                "remove services and wait {} minutes, or give every node a larger --vip-pool4",
                REST_SECONDS / 60
            ),
        })
    }

    /// Lets a VIP rest.
    pub(super) fn release_vip(&mut self, vip: Ipv4Addr) {
        if let Some(offset) = offset_in(self.pools.vip4, vip) {
            self.vips.resting.insert(offset, self.clock.now / 1000);
        }
    }

    /// A node for a replica of this, and an address of each family there.
    pub(super) fn place(&mut self, key: &ReplicaKey, spec: &ServiceSpec) -> Result<Placed, Condition> {
        // The node still has it: the same replica may go on with its address. Nobody else may have it.
        if let Some((name, offset)) = self.leaving(key)
            && self.placement.goes_on(&name, key, spec)
            && let Some(node) = self.nodes.get_mut(&name)
        {
            node.pool.leaving.remove(&offset);
            node.used.insert(offset);
            self.placement.put(&name, key, spec);
            return node.placed(offset);
        }
        self.count_nodes();
        let name = self.placement.choose(key, spec)?;
        self.take_at(name, key, spec)
    }

    /// The same on this node and no other.
    pub(super) fn place_on(&mut self, node: &str, key: &ReplicaKey, spec: &ServiceSpec) -> Result<Placed, Condition> {
        self.count_nodes();
        self.placement.must_take(node, key, spec)?;
        self.take_at(node.to_owned(), key, spec)
    }

    fn take_at(&mut self, name: String, key: &ReplicaKey, spec: &ServiceSpec) -> Result<Placed, Condition> {
        loop {
            let Some(node) = self.nodes.get_mut(&name) else { return Err(no_node()) };
            if let Some(offset) = node.take(self.clock) {
                self.placement.put(&name, key, spec);
                return node.placed(offset);
            }
            let (used, resting) = (node.used.len(), node.pool.resting.len());
            let prefix = self.free_prefix().map_err(|full| Condition {
                message: format!(
                    "no address is free for {key} on node {name}: {used} are in use, {resting} rest after release, and {}",
                    full.message
                ),
                ..full
            })?;
            if let Some(node) = self.nodes.get_mut(&name) {
                node.record.prefixes4.push(prefix);
            }
        }
    }

    /// Undoes the last [`Allocator::place`] of this transaction that is not undone: nobody has seen the address.
    pub(super) fn take_back(&mut self, replica: &ReplicaAssignment) {
        self.placement.take_back(replica);
        let before = self.state.addresses.get(&replica.node);
        if let Some(node) = self.nodes.get_mut(&replica.node)
            && let Some(offset) = node.offset(replica.address4)
        {
            node.used.remove(&offset);
            match before.and_then(|before| before.value.leaving.get(&offset)) {
                Some(key) => drop(node.pool.leaving.insert(offset, key.clone())),
                None => node.pool.cursor = offset,
            }
        }
    }

    /// The address of a replica that is no longer assigned is not free until its node has let go of it.
    pub(super) fn leave(&mut self, replica: &ReplicaAssignment) {
        if let Some(node) = self.nodes.get_mut(&replica.node)
            && let Some(offset) = node.offset(replica.address4)
        {
            node.pool.leaving.insert(offset, replica.key.clone());
        }
    }

    /// Lets the addresses rest of those replicas, among the ones that `whose` picks, that no node has any more.
    pub(super) fn rest(&mut self, whose: impl Fn(&ReplicaKey) -> bool) {
        for (name, node) in &mut self.nodes {
            let gone = |key: &ReplicaKey| whose(key) && !self.state.statuses.contains_key(&(key.clone(), name.clone()));
            let offsets: Vec<u32> = node.pool.leaving.iter().filter(|(_, key)| gone(key)).map(|(o, _)| *o).collect();
            for offset in offsets {
                node.pool.leaving.remove(&offset);
                node.pool.resting.insert(offset, self.clock.now / 1000);
            }
        }
    }

    /// The record of a new node.
    pub(super) fn node(&mut self, name: &str) -> Result<NodeRecord, Condition> {
        let prefix = self.free_prefix()?;
        let index = offset_in(self.pools.container4, prefix.network()).unwrap_or(0) / PREFIX_SIZE;
        let pool6 = self.pools.container6;
        let subnets = u128::from(PREFIX_LEN6.saturating_sub(pool6.prefix_len()));
        if pool6.prefix_len() > PREFIX_LEN6 || u128::from(index) >> subnets != 0 {
            return Err(Condition {
                message: format!("the IPv6 pool {pool6} has no /{PREFIX_LEN6} for node {name}"),
                remedy: "give every node a --container-pool6 with as many /64 as --container-pool4 has /24".into(),
            });
        }
        let network6 = pool6.network().to_bits() + (u128::from(index) << (128 - PREFIX_LEN6));
        let prefix6 = Ipv6Net::new_assert(Ipv6Addr::from_bits(network6), PREFIX_LEN6);
        Ok(NodeRecord { name: name.to_owned(), id: next_id(&mut self.ids.node), prefixes4: vec![prefix], prefix6 })
    }

    /// Adds the changed records to a transaction.
    pub(super) fn finish(self, txn: &mut Txn) -> Result<(), StoreError> {
        let state = self.state;
        set_record(txn, &schema::ids(), state.ids.as_ref(), &self.ids)?;
        set_record(txn, &schema::prefixes(), state.prefixes.as_ref(), &self.prefixes)?;
        set_record(txn, &schema::vips(), state.vips.as_ref(), &self.vips)?;
        for (key, node) in self.placement.into_volumes() {
            let before = state.volumes.get(&key);
            let after = before.map_or(VolumeAssignment { node }, |before| before.value.clone());
            set(txn, &schema::volume(&key), before, Some(&after))?;
        }
        for (name, node) in self.nodes {
            set(txn, &schema::node(&name), state.nodes.get(&name), Some(&node.record))?;
            set_record(txn, &schema::addresses(&name), state.addresses.get(&name), &node.pool)?;
        }
        Ok(())
    }

    fn count_nodes(&mut self) {
        if std::mem::replace(&mut self.nodes_counted, true) {
            return;
        }
        for replica in self.state.replicas.values() {
            if let Some(node) = self.nodes.get_mut(&replica.value.node)
                && let Some(offset) = node.offset(replica.value.address4)
            {
                node.used.insert(offset);
            }
        }
    }

    fn leaving(&self, key: &ReplicaKey) -> Option<(String, u32)> {
        self.nodes.iter().find_map(|(name, node)| {
            let (offset, _) = node.pool.leaving.iter().find(|(_, leaving)| *leaving == key)?;
            Some((name.clone(), *offset))
        })
    }

    fn free_prefix(&mut self) -> Result<Ipv4Net, Condition> {
        let pool = self.pools.container4;
        let used: BTreeSet<Ipv4Net> = self.nodes.values().flat_map(|node| node.record.prefixes4.clone()).collect();
        let prefix = |index: u32| Ipv4Net::new_assert(nth4(pool, index * PREFIX_SIZE), PREFIX_LEN4);
        let found = next_fit(size_of(pool) / PREFIX_SIZE, self.prefixes.cursor, |index| !used.contains(&prefix(index)));
        let Some(index) = found else {
            return Err(Condition {
                message: format!("no /{PREFIX_LEN4} is free in {pool}: nodes have {} of it", used.len()),
                remedy: format!(
                    "remove replicas and wait {} minutes, or give every node a larger --container-pool4",
                    REST_SECONDS / 60
                ),
            });
        };
        self.prefixes.cursor = index + 1;
        Ok(prefix(index))
    }
}

impl Node {
    fn take(&mut self, clock: Clock) -> Option<u32> {
        let size = u32::try_from(self.record.prefixes4.len()).unwrap_or(u32::MAX).saturating_mul(PREFIX_SIZE);
        // Neither a prefix's network nor its broadcast address: some tools refuse them.
        let usable = |offset: u32| !matches!(offset % PREFIX_SIZE, 0 | 255);
        take(&mut self.pool, &mut self.used, size, clock, usable)
    }

    fn placed(&self, offset: u32) -> Result<Placed, Condition> {
        let prefix = self.record.prefixes4.get((offset / PREFIX_SIZE) as usize).ok_or_else(no_node)?;
        Ok(Placed {
            node: self.record.name.clone(),
            address4: nth4(*prefix, offset % PREFIX_SIZE),
            address6: nth6(self.record.prefix6, offset),
        })
    }

    /// Offsets count through the prefixes in their order, which never changes.
    fn offset(&self, address: Ipv4Addr) -> Option<u32> {
        let index = self.record.prefixes4.iter().position(|prefix| prefix.contains(&address))?;
        Some(u32::try_from(index).ok()? * PREFIX_SIZE + u32::from(address.octets()[3]))
    }
}

/// Gives network bits to the wanted names: those that have one keep it, those of others rest.
/// A name without a bit in the answer found none free.
pub(super) fn network_bits<'n>(
    before: &BTreeMap<String, u8>,
    resting: &mut BTreeMap<u8, u64>,
    wanted: impl Iterator<Item = &'n String> + Clone,
    clock: Clock,
) -> BTreeMap<String, u8> {
    let mut bits: BTreeMap<String, u8> = BTreeMap::new();
    for (name, bit) in before {
        if wanted.clone().any(|wanted| wanted == name) {
            bits.insert(name.clone(), *bit);
        } else {
            resting.insert(*bit, clock.now / 1000);
        }
    }
    for name in wanted {
        if bits.contains_key(name) {
            continue;
        }
        resting.retain(|_, released| rests(*released, clock));
        let free = |bit: &u8| !resting.contains_key(bit) && !bits.values().any(|used| used == bit);
        if let Some(bit) = (0..64).find(free) {
            bits.insert(name.clone(), bit);
        }
    }
    bits
}

/// A record that was never written is the default one.
fn set_record<T: Default + PartialEq + Serialize>(
    txn: &mut Txn,
    key: &Key<T>,
    before: Option<&Versioned<T>>,
    after: &T,
) -> Result<(), StoreError> {
    if before.is_none() && *after == T::default() { Ok(()) } else { set(txn, key, before, Some(after)) }
}

fn take(
    pool: &mut AddressPool,
    used: &mut BTreeSet<u32>,
    size: u32,
    clock: Clock,
    usable: impl Fn(u32) -> bool,
) -> Option<u32> {
    pool.resting.retain(|_, released| rests(*released, clock));
    let free = |offset: u32| {
        usable(offset)
            && !used.contains(&offset)
            && !pool.leaving.contains_key(&offset)
            && !pool.resting.contains_key(&offset)
    };
    let offset = next_fit(size, pool.cursor, free)?;
    pool.cursor = offset + 1;
    used.insert(offset);
    Some(offset)
}

/// The first that is free from `cursor` on, going round once.
fn next_fit(size: u32, cursor: u32, free: impl Fn(u32) -> bool) -> Option<u32> {
    let cursor = cursor.min(size);
    (cursor..size).chain(0..cursor).find(|offset| free(*offset))
}

/// By a clock that another node's was ahead of, or that was set, it rests longer, never shorter.
fn rests(released: u64, clock: Clock) -> bool {
    !clock.passed(released * 1000, REST_SECONDS * 1000)
}

fn next_id(last: &mut u32) -> u32 {
    *last += 1;
    *last
}

fn size_of(pool: Ipv4Net) -> u32 {
    1_u32.checked_shl(u32::from(pool.max_prefix_len() - pool.prefix_len())).unwrap_or(u32::MAX)
}

fn offset_in(pool: Ipv4Net, address: Ipv4Addr) -> Option<u32> {
    pool.contains(&address).then(|| address.to_bits() - pool.network().to_bits())
}

fn no_node() -> Condition {
    Condition { message: "no node is there".into(), remedy: "start skepd on one".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_rests_whatever_the_clocks_of_those_who_lead_say() {
        let clock = |began: u64, now: u64| Clock { watching: began * 1_000, ..Clock::at(now * 1_000) };
        let released = 100_000;
        assert!(rests(released, clock(90_000, released + REST_SECONDS - 1)));
        assert!(!rests(released, clock(90_000, released + REST_SECONDS)));
        for began in [50_000, 200_000] {
            assert!(rests(released, clock(began, began + REST_SECONDS - 1)), "{began}");
            assert!(!rests(released, clock(began, began + REST_SECONDS)), "{began}");
        }
    }
}
