//! A snapshot begins a new life: on another machine, or on this one after changes that it knows nothing of.

use std::path::Path;

use ipnet::Ipv4Net;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::allocation::{AddressPool, Ids};
use crate::model::{NodeRecord, Pools, ReplicaAssignment, VolumeAssignment};
use crate::store::schema::{self, Key, Subject};
use crate::store::snapshot::Record;
use crate::store::{Embedded, Snapshot, StoreError, Value};

/// More revisions than there can have been since the snapshot was taken; 2^53 (JSON's integers) leaves room for
/// millions of such steps.
const REVISIONS: u64 = 1 << 30;
/// More ids than can have been handed out since.
const IDS: u32 = 1 << 16;
/// So many addresses of each pool come last: those that may have been handed out since.
const ADDRESSES: u32 = 64;

/// Wanted environments of a snapshot.
pub(super) fn environments(snapshot: &Snapshot) -> usize {
    snapshot.range(schema::intents().as_str()).len()
}

/// The store that will be replaced, or its newest copy.
pub(super) fn before(store: &Path) -> Option<Snapshot> {
    let copies = || Embedded::copies(store).into_iter().find_map(|copy| copy.content.ok());
    Embedded::read(store).ok().or_else(copies)
}

/// A backup of node `from` as the store of node `to`, in the place of `before`.
///
/// # Errors
/// [`StoreError::Value`] when a value is not what its key promises.
pub(super) fn restored(
    snapshot: Snapshot,
    from: &str,
    to: &str,
    before: Option<&Snapshot>,
    pools: &Pools,
) -> Result<Snapshot, StoreError> {
    let mut after = moved(snapshot, from, to)?;
    if let Some(before) = before {
        after.revision = after.revision.max(before.revision);
        if let Some(old) = value::<Ids>(before, &schema::ids())? {
            update(&mut after, &schema::ids(), |ids: &mut Ids| {
                ids.environment = ids.environment.max(old.environment);
                ids.service = ids.service.max(old.service);
                ids.node = ids.node.max(old.node);
            })?;
        }
    }
    advance(&mut after, pools)?;
    Ok(after)
}

/// A snapshot of node `from` as one of node `to`, later: what was seen of replicas is of another day, and whoever held a
/// lease holds it no more.
///
/// # Errors
/// [`StoreError::Value`] when a value is not what its key promises.
pub(crate) fn moved(snapshot: Snapshot, from: &str, to: &str) -> Result<Snapshot, StoreError> {
    let mut after = Snapshot { revision: snapshot.revision, ..Snapshot::default() };
    for (key, record) in snapshot.entries {
        if record.lease.is_some() {
            continue;
        }
        let (key, value) = match Subject::of(&key) {
            // Whoever waited for a command is gone, too.
            Some(Subject::Status(..) | Subject::Ack(..) | Subject::Pulled(_) | Subject::OneOff(_)) => continue,
            // Who may come to another cluster's etcd.
            Some(Subject::Admission(_) | Subject::Invitation(_)) => continue,
            Some(Subject::Tunnel(name)) if name == from => continue,
            Some(Subject::Node(name)) if name == from => {
                let mut node: NodeRecord = decode(&key, &record)?;
                to.clone_into(&mut node.name);
                (schema::node(to).as_str().to_owned(), encode(&key, &node)?)
            }
            Some(Subject::Replica(node, replica)) if node == from => {
                let mut assignment: ReplicaAssignment = decode(&key, &record)?;
                to.clone_into(&mut assignment.node);
                (schema::replica(to, &replica).as_str().to_owned(), encode(&key, &assignment)?)
            }
            Some(Subject::Volume(_)) => {
                let volume: VolumeAssignment = decode(&key, &record)?;
                let node = if volume.node == from { to.to_owned() } else { volume.node };
                let value = encode(&key, &VolumeAssignment { node })?;
                (key, value)
            }
            Some(Subject::Addresses(node)) if node == from => {
                (schema::addresses(to).as_str().to_owned(), record.value.clone())
            }
            _ => (key, record.value.clone()),
        };
        after.entries.insert(key, Record { value, ..record });
    }
    Ok(after)
}

/// Revisions and ids rise beyond any that may have been handed out since; the addresses that may have been come last.
pub(crate) fn advance(snapshot: &mut Snapshot, pools: &Pools) -> Result<(), StoreError> {
    snapshot.revision += REVISIONS;
    update(snapshot, &schema::ids(), |ids: &mut Ids| {
        ids.environment = ids.environment.saturating_add(IDS);
        ids.service = ids.service.saturating_add(IDS);
    })?;
    let size = |pool: Ipv4Net| 1_u32.checked_shl(32 - u32::from(pool.prefix_len())).unwrap_or(u32::MAX);
    let rotate = |size: u32| move |pool: &mut AddressPool| pool.cursor = (pool.cursor + ADDRESSES) % size.max(1);
    update(snapshot, &schema::vips(), rotate(size(pools.vip4)))?;
    for entry in snapshot.range(schema::nodes().as_str()) {
        let node: NodeRecord = schema::decode(&entry)?.value;
        let total = node.prefixes4.iter().map(|prefix| size(*prefix)).sum();
        update(snapshot, &schema::addresses(&node.name), rotate(total))?;
    }
    Ok(())
}

/// A value of a snapshot.
///
/// # Errors
/// [`StoreError::Value`] when it is not a `T`.
pub(crate) fn value<T: DeserializeOwned>(snapshot: &Snapshot, key: &Key<T>) -> Result<Option<T>, StoreError> {
    snapshot.get(key.as_str()).map(|entry| schema::decode(&entry).map(|found| found.value)).transpose()
}

fn update<T: DeserializeOwned + Serialize>(
    snapshot: &mut Snapshot,
    key: &Key<T>,
    change: impl FnOnce(&mut T),
) -> Result<(), StoreError> {
    let Some(mut value) = value(snapshot, key)? else { return Ok(()) };
    change(&mut value);
    put(snapshot, key, &value)
}

/// Sets a value of a snapshot.
///
/// # Errors
/// [`StoreError::Value`] when it has no JSON form.
pub(crate) fn put<T: Serialize>(snapshot: &mut Snapshot, key: &Key<T>, value: &T) -> Result<(), StoreError> {
    let bytes = encode(key.as_str(), value)?;
    snapshot.put(key.as_str().to_owned(), bytes);
    Ok(())
}

fn decode<T: DeserializeOwned>(key: &str, record: &Record) -> Result<T, StoreError> {
    serde_json::from_slice(&record.value).map_err(|source| StoreError::Value { key: key.to_owned(), source })
}

fn encode(key: &str, value: &impl Serialize) -> Result<Value, StoreError> {
    serde_json::to_vec(value).map(Value::from).map_err(|source| StoreError::Value { key: key.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ReplicaStatus;
    use crate::model::allocation::example_pools;
    use crate::model::record::example;
    use crate::store::LeaseId;

    fn pools() -> Pools {
        Pools { vip4: "10.224.0.0/24".parse().unwrap(), ..example_pools() }
    }

    fn taken() -> Snapshot {
        let mut snapshot = Snapshot { revision: 40, last_lease: 2, ..Snapshot::default() };
        let replica = example("web", 1, true, &[("front", 0)]).assignment;
        let node = NodeRecord {
            name: "n1".into(),
            id: 1,
            prefixes4: vec!["10.208.0.0/24".parse().unwrap()],
            prefix6: "fd53:6b65:7000::/64".parse().unwrap(),
        };
        put(&mut snapshot, &schema::node("n1"), &node).unwrap();
        put(&mut snapshot, &schema::replica("n1", &replica.key), &replica).unwrap();
        let status = ReplicaStatus::new(replica.key.clone(), "n1");
        put(&mut snapshot, &schema::status("n1", &replica.key), &status).unwrap();
        put(&mut snapshot, &schema::ids(), &Ids { environment: 4, service: 9, node: 1 }).unwrap();
        put(&mut snapshot, &schema::vips(), &AddressPool { cursor: 250, ..AddressPool::default() }).unwrap();
        put(&mut snapshot, &schema::addresses("n1"), &AddressPool { cursor: 20, ..AddressPool::default() }).unwrap();
        let leased = Record { revision: 3, lease: Some(LeaseId(2)), value: vec![1].into() };
        snapshot.entries.insert("/leased".into(), leased);
        snapshot
    }

    #[test]
    fn another_machine_takes_the_place_of_the_node_with_the_same_ids_and_addresses() {
        let after = restored(taken(), "n1", "n2", None, &pools()).unwrap();
        let replica = example("web", 1, true, &[("front", 0)]).assignment;
        let moved = value(&after, &schema::replica("n2", &replica.key)).unwrap().unwrap();
        assert_eq!(moved, ReplicaAssignment { node: "n2".into(), ..replica });
        assert_eq!(value(&after, &schema::node("n2")).unwrap().unwrap().id, 1);
        let keys: Vec<_> = after.entries.keys().filter(|key| key.contains("n1") || key.contains("leased")).collect();
        assert!(keys.is_empty() && after.range(schema::statuses().as_str()).is_empty(), "{keys:?}");
    }

    #[test]
    fn revisions_and_ids_rise_beyond_what_was_handed_out_and_addresses_come_last() {
        let mut before = Snapshot { revision: 90, ..Snapshot::default() };
        put(&mut before, &schema::ids(), &Ids { environment: 7, service: 3, node: 2 }).unwrap();
        let after = restored(taken(), "n1", "n1", Some(&before), &pools()).unwrap();
        assert_eq!(after.revision, 90 + REVISIONS);
        let ids = value(&after, &schema::ids()).unwrap().unwrap();
        assert_eq!(ids, Ids { environment: 7 + IDS, service: 9 + IDS, node: 2 });
        assert_eq!(value(&after, &schema::vips()).unwrap().unwrap().cursor, (250 + ADDRESSES) % 256);
        assert_eq!(value(&after, &schema::addresses("n1")).unwrap().unwrap().cursor, 20 + ADDRESSES);
    }
}
