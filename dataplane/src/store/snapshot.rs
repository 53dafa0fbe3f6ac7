//! A whole store at one revision: as it is in memory, and as the bytes of a copy or a backup.
//!
//! The bytes, all numbers little-endian: the magic, `u32` format, `u64` revision, `u64` last lease, `u32` number of
//! leases, each `u64` id and `u64` milliseconds; `u32` number of entries, each key, `u64` revision, `u64` lease (0: none)
//! and value, where key and value are a `u32` length and as many bytes; at last BLAKE2b-256 of all before.

use std::collections::BTreeMap;
use std::time::Duration;

use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};

use super::{Compare, Entry, Event, LeaseId, Range, Revision, Value, Write};

const MAGIC: &[u8; 8] = b"SKEPSNAP";
const FORMAT: u32 = 1;
/// Octets of the checksum.
const SUM: usize = 32;

/// Everything that a store holds at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Counts the commits.
    pub revision: Revision,
    /// The lease handed out last.
    pub last_lease: u64,
    /// Leases that have not ended, with their time to live.
    pub leases: BTreeMap<LeaseId, Duration>,
    /// By key.
    pub entries: BTreeMap<String, Record>,
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Revision of the last put.
    pub revision: Revision,
    /// The lease that the key dies with.
    pub lease: Option<LeaseId>,
    /// What the last put wrote.
    pub value: Value,
}

/// Bytes that are no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Something else, or cut off.
    #[error("it is no snapshot of a store, or a part of one")]
    Foreign,
    /// Made by a newer version.
    #[error("it has format {found}, this skepd knows {FORMAT}: use the skepd that wrote it, or a newer one")]
    Format {
        /// Its format.
        found: u32,
    },
    /// Altered.
    #[error("its checksum does not fit: it was altered or cut off")]
    Checksum,
}

/// A change of a snapshot: what a transaction, a grant or the end of a lease does.
#[derive(Debug, Clone, Default)]
pub(super) struct Change {
    pub(super) revision: Revision,
    /// What really changes; never a delete of nothing.
    pub(super) writes: Vec<Write>,
    pub(super) granted: Option<(LeaseId, Duration)>,
    pub(super) ended: Option<LeaseId>,
}

impl Change {
    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.granted.is_none() && self.ended.is_none()
    }
}

impl Snapshot {
    /// One entry.
    pub fn get(&self, key: &str) -> Option<Entry> {
        self.entries.get(key).map(|record| entry(key, record))
    }

    /// Every entry whose key starts with `prefix`.
    pub fn range(&self, prefix: &str) -> Vec<Entry> {
        let from = self.entries.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix)).map(|(key, record)| entry(key, record)).collect()
    }

    /// Sets a key as a transaction of the current revision would.
    pub fn put(&mut self, key: String, value: impl Into<Value>) {
        self.entries.insert(key, Record { revision: self.revision, lease: None, value: value.into() });
    }

    pub(super) fn holds(&self, condition: &Compare) -> bool {
        match condition {
            Compare::Absent(key) => !self.entries.contains_key(key),
            Compare::Revision(key, revision) => self.entries.get(key).is_some_and(|e| e.revision == *revision),
            Compare::Value(key, value) => self.entries.get(key).is_some_and(|e| e.value == *value),
        }
    }

    /// The change that `writes` make.
    pub(super) fn change(&self, writes: &[Write]) -> Change {
        let real = |write: &&Write| match write {
            Write::Put { .. } => true,
            Write::Delete(key) => self.entries.contains_key(key),
        };
        let writes: Vec<Write> = writes.iter().filter(real).cloned().collect();
        Change { revision: self.revision + u64::from(!writes.is_empty()), writes, ..Change::default() }
    }

    /// Takes a change in; what watches are told of it.
    pub(super) fn apply(&mut self, change: Change) -> Vec<Event> {
        self.revision = change.revision;
        if let Some((lease, ttl)) = change.granted {
            self.last_lease = lease.0;
            self.leases.insert(lease, ttl);
        }
        if let Some(lease) = change.ended {
            self.leases.remove(&lease);
        }
        let revision = change.revision;
        let tell = |write| match write {
            Write::Put { key, value, lease } => {
                self.entries.insert(key.clone(), Record { revision, lease, value: value.clone() });
                Event::Put(Entry { key, value, revision, lease })
            }
            Write::Delete(key) => {
                self.entries.remove(&key);
                Event::Delete { key, revision }
            }
        };
        change.writes.into_iter().map(tell).collect()
    }

    /// Octets of keys and values.
    pub(super) fn size(&self) -> u64 {
        self.entries.iter().map(|(key, record)| (key.len() + record.value.len()) as u64).sum()
    }

    /// As bytes; see the module's description.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC);
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend(self.revision.to_le_bytes());
        bytes.extend(self.last_lease.to_le_bytes());
        bytes.extend(length(self.leases.len()));
        for (lease, ttl) in &self.leases {
            bytes.extend(lease.0.to_le_bytes());
            bytes.extend(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).to_le_bytes());
        }
        bytes.extend(length(self.entries.len()));
        for (key, record) in &self.entries {
            bytes.extend(length(key.len()));
            bytes.extend(key.as_bytes());
            bytes.extend(record.revision.to_le_bytes());
            bytes.extend(record.lease.map_or(0, |lease| lease.0).to_le_bytes());
            bytes.extend(length(record.value.len()));
            bytes.extend(&*record.value);
        }
        let sum = checksum(&bytes);
        bytes.extend(sum);
        bytes
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`SnapshotError`] unless they are exactly what [`Self::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut header = Reader(bytes);
        if header.take(MAGIC.len())? != MAGIC {
            return Err(SnapshotError::Foreign);
        }
        let format = header.u32()?;
        let end = bytes.len().checked_sub(SUM).ok_or(SnapshotError::Foreign)?;
        let (content, sum) = bytes.split_at(end);
        if checksum(content) != sum {
            return Err(SnapshotError::Checksum);
        }
        if format != FORMAT {
            return Err(SnapshotError::Format { found: format });
        }
        let mut reader = Reader(content.get(MAGIC.len() + size_of::<u32>()..).ok_or(SnapshotError::Foreign)?);
        let mut snapshot = Self { revision: reader.u64()?, last_lease: reader.u64()?, ..Self::default() };
        for _ in 0..reader.u32()? {
            snapshot.leases.insert(LeaseId(reader.u64()?), Duration::from_millis(reader.u64()?));
        }
        for _ in 0..reader.u32()? {
            let key = std::str::from_utf8(reader.sized()?).map_err(|_| SnapshotError::Foreign)?.to_owned();
            let (revision, lease) = (reader.u64()?, reader.u64()?);
            let lease = (lease != 0).then_some(LeaseId(lease));
            snapshot.entries.insert(key, Record { revision, lease, value: reader.sized()?.into() });
        }
        if reader.0.is_empty() { Ok(snapshot) } else { Err(SnapshotError::Foreign) }
    }
}

impl From<Range> for Snapshot {
    /// Leases are left out: they end with those who hold them.
    fn from(range: Range) -> Self {
        let record = |Entry { key, value, revision, lease }| (key, Record { revision, lease, value });
        let entries = range.entries.into_iter().map(record).collect();
        Self { revision: range.revision, entries, ..Self::default() }
    }
}

fn entry(key: &str, record: &Record) -> Entry {
    let Record { revision, lease, ref value } = *record;
    Entry { key: key.to_owned(), value: value.clone(), revision, lease }
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

/// BLAKE2b-256.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; SUM] {
    Blake2b::<U32>::digest(bytes).into()
}

/// Takes bytes off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], SnapshotError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(SnapshotError::Foreign)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        self.take(N)?.try_into().map_err(|_| SnapshotError::Foreign)
    }

    fn u32(&mut self) -> Result<u32, SnapshotError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, SnapshotError> {
        self.array().map(u64::from_le_bytes)
    }

    fn sized(&mut self) -> Result<&'a [u8], SnapshotError> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_| SnapshotError::Foreign)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Snapshot {
        let mut snapshot = Snapshot { revision: 7, last_lease: 3, ..Snapshot::default() };
        snapshot.leases.insert(LeaseId(3), Duration::from_millis(1500));
        snapshot.put("/a".into(), b"{}".to_vec());
        let record = Record { revision: 2, lease: Some(LeaseId(3)), value: vec![0, 255].into() };
        snapshot.entries.insert("/b".into(), record);
        snapshot
    }

    #[test]
    fn a_snapshot_survives_its_bytes_and_nothing_else_is_one() {
        for snapshot in [Snapshot::default(), example()] {
            let bytes = snapshot.encode();
            assert_eq!(Snapshot::decode(&bytes), Ok(snapshot));
            for end in 0..bytes.len() {
                assert!(Snapshot::decode(&bytes[..end]).is_err(), "cut off at {end}");
            }
            for at in 0..bytes.len() {
                let mut altered = bytes.clone();
                altered[at] ^= 0x10;
                assert!(Snapshot::decode(&altered).is_err(), "altered at {at}");
            }
            assert!(Snapshot::decode(&[bytes, vec![0]].concat()).is_err());
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut bytes = example().encode();
        bytes.truncate(bytes.len() - SUM);
        bytes[MAGIC.len()] = 9;
        let sum = checksum(&bytes);
        bytes.extend(sum);
        assert_eq!(Snapshot::decode(&bytes), Err(SnapshotError::Format { found: 9 }));
    }
}
