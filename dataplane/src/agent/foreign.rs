//! Entries of the maps that nobody but skepd should write, and that skepd did not write: they are taken away like any
//! other that is not wanted, and people are told.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dataplane_ebpf::abi::{Addr, map};

use super::desired::Desired;
use super::names::text_name;
use super::observed::Observed;
use super::op::{Op, grant, listed};
use super::tables;

/// So long is one told of, and no more than so many.
const MEMORY: (Duration, usize) = (Duration::from_secs(3_600), 16);

/// An entry that somebody else wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Which map.
    pub map: &'static str,
    /// Its key, for people.
    pub key: String,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.key, self.map)
    }
}

/// What was found within the last hour.
#[derive(Debug, Default)]
pub struct Reports {
    recent: Mutex<VecDeque<(Instant, Foreign)>>,
}

impl Reports {
    pub(super) fn tell(&self, foreign: Foreign) {
        let mut recent = self.lock();
        recent.push_back((Instant::now(), foreign));
        while recent.len() > MEMORY.1 {
            recent.pop_front();
        }
    }

    /// How long ago, and what; the oldest first.
    pub fn recent(&self) -> Vec<(Duration, Foreign)> {
        let recent = self.lock();
        let ages = recent.iter().map(|(at, foreign)| (at.elapsed(), foreign.clone()));
        ages.filter(|(age, _)| *age < MEMORY.0).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, Foreign)>> {
        // A panic while it is held leaves no half-written entry.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Devices and namespaces that this daemon registered: what it did since the last look is in no picture of that.
#[derive(Debug, Default)]
pub(super) struct Own {
    registered: Mutex<BTreeSet<(u32, u64)>>,
}

impl Own {
    pub(super) fn note(&self, ifindex: u32, cookie: u64) {
        self.lock().insert((ifindex, cookie));
    }

    /// Those that are in the maps no more can come back by nobody's hand but a stranger's.
    pub(super) fn prune(&self, observed: &Observed) {
        let now = &observed.tables;
        let present =
            |(ifindex, cookie): &(u32, u64)| now.devices.contains_key(ifindex) || now.netns.contains_key(cookie);
        self.lock().retain(present);
    }

    fn has_device(&self, wanted: u32) -> bool {
        self.lock().iter().any(|(ifindex, _)| *ifindex == wanted)
    }

    fn has_netns(&self, wanted: u64) -> bool {
        self.lock().iter().any(|(_, cookie)| *cookie == wanted)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(u32, u64)>> {
        // A panic while it is held leaves no half-written entry.
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of the entries that a plan takes away, those that neither were there when all was looked at the last time
/// (`before`) nor were wanted then.
pub(super) fn find(ops: &[Op], now: &Observed, before: (&Desired, &Observed), own: &Own) -> Vec<Foreign> {
    let (desired, before) = before;
    let past = &before.tables;
    // Made for the first op that needs it: a plan without one is the rule.
    let wanted = std::cell::LazyCell::new(|| tables::publish(desired, before));
    let assigned = |address: Addr| {
        desired.replicas.values().any(|r| [Addr::from(r.address4), r.address6.into()].contains(&address))
            || desired.elsewhere.values().any(|r| r.addresses().contains(&address))
    };
    let mut found = Vec::new();
    let mut tell = |map, key: String, known: bool| {
        if !known {
            found.push(Foreign { map, key });
        }
    };
    for op in ops {
        match op {
            Op::DropDevice(ifindex) => {
                let known = past.devices.contains_key(ifindex) || past.budgets.contains(ifindex);
                tell(map::DEVICES, format!("device {ifindex}"), known || own.has_device(*ifindex));
            }
            Op::DropNetns(cookie) => {
                let known = past.netns.contains_key(cookie) || own.has_netns(*cookie);
                tell(map::NETNS, format!("network namespace {cookie}"), known);
            }
            Op::DropEndpoint(address) => {
                tell(map::ENDPOINTS, address.to_string(), past.endpoints.contains_key(address) || assigned(*address));
            }
            Op::DropService(place, key) => {
                let known = past.services.contains_key(key) || wanted.services.contains_key(key);
                tell(map::SERVICES, format!("{} of {place}", key.vip), known);
            }
            Op::DropName(place, key) => {
                let known = past.names.contains_key(key) || wanted.names.contains_key(key);
                tell(map::NAMES, format!("{} of {place}", text_name(&key.name)), known);
            }
            Op::DropPtr(place, key) => {
                let known = past.ptrs.contains_key(key) || wanted.ptrs.contains_key(key);
                tell(map::PTRS, format!("{} of {place}", key.addr), known);
            }
            Op::DropNode(id) => tell(map::NODES, format!("node {id}"), past.nodes.contains_key(id)),
            Op::DropBackend(key) => {
                let key_text = format!("backend {} of set {} of service {}", key.slot, key.generation, key.service);
                tell(map::BACKENDS, key_text, past.loose.contains(key));
            }
            Op::DropGrant(key) => tell(map::GRANTS, grant(key), past.grants.contains(key)),
            Op::SetEgress(rules) => {
                let added = now.tables.egress.keys().filter(|key| !rules.contains_key(key));
                added.for_each(|key| tell(map::EGRESS, key.to_string(), past.egress.contains_key(key)));
            }
            Op::SetLists(lists) => {
                let added = now.tables.lists.keys().filter(|key| !lists.contains_key(key));
                added.for_each(|key| tell(map::EGRESS_LISTS, listed(key), past.lists.contains_key(key)));
            }
            _ => {}
        }
    }
    found
}
