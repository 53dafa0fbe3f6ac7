use std::fs;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use dataplane_ebpf::abi::{Pod, Sealed};

use super::BpfError;
use super::sys::{self, MapFacts};

/// A map of keys `K` to values `V`, opened by its pin. All methods take a shared reference: each is one
/// system call, and the kernel does the locking.
#[derive(Debug)]
pub struct Table<K, V> {
    name: &'static str,
    fd: OwnedFd,
    facts: MapFacts,
    marker: PhantomData<(K, V)>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    const VALUE_WORDS: usize = {
        assert!(size_of::<V>().is_multiple_of(8), "values are copied as u64 words");
        size_of::<V>() / 8
    };

    /// Opens the pin of `name`; read-only when not `writable`.
    pub(super) fn open(name: &'static str, path: &Path, writable: bool) -> Result<Self, BpfError> {
        let (fd, facts) = open(name, path, writable, size_of::<K>(), size_of::<V>())?;
        Ok(Self { name, fd, facts, marker: PhantomData })
    }

    /// The map's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What the kernel says about the map.
    pub fn facts(&self) -> MapFacts {
        self.facts
    }

    /// How many entries the map can hold.
    pub fn capacity(&self) -> usize {
        self.facts.max_entries as usize
    }

    /// The value of `key`, as it is: a sealed one may be torn, see [`Self::get_settled`].
    ///
    /// # Errors
    /// [`BpfError::Map`] with the kernel's word, as for all methods.
    pub fn get(&self, key: &K) -> Result<Option<V>, BpfError> {
        // SAFETY: the sizes of `K` and `V` were compared with the map's when it was opened, and there is one value.
        unsafe { sys::lookup(self.fd.as_fd(), key) }.map_err(self.failed("read"))
    }

    /// Deletes `key`; whether it was there.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn delete(&self, key: &K) -> Result<bool, BpfError> {
        // SAFETY: the size of `K` was compared with the map's when it was opened.
        unsafe { sys::delete(self.fd.as_fd(), key) }.map_err(self.failed("delete"))
    }

    /// Writes a value that has no seal.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub(super) fn put_bare(&self, key: &K, value: &V) -> Result<(), BpfError> {
        // SAFETY: the sizes of `K` and `V` were compared with the map's when it was opened, and there is one value.
        unsafe { sys::update(self.fd.as_fd(), key, value) }.map_err(self.failed("write"))
    }

    /// Every entry, in no order: all those that are there throughout the call, and some of those that come or go.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn entries(&self) -> Result<Vec<(K, V)>, BpfError> {
        let mut all = Vec::new();
        // SAFETY: the sizes of `K` and `V` were compared with the map's when it was opened, and there is one value.
        unsafe {
            sys::entries(self.fd.as_fd(), Self::VALUE_WORDS, |key: K, words| all.push((key, from_words::<V>(words))))
        }
        .map_err(self.failed("list"))?;
        Ok(all)
    }

    /// How many entries the map holds; counted, so it costs as much as [`Self::entries`].
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn usage(&self) -> Result<usize, BpfError> {
        let mut count = 0;
        // SAFETY: as in `entries`.
        unsafe { sys::entries(self.fd.as_fd(), Self::VALUE_WORDS, |_: K, _| count += 1) }
            .map_err(self.failed("list"))?;
        Ok(count)
    }

    fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> BpfError {
        let map = self.name;
        move |source| BpfError::Map { map, operation, source }
    }
}

impl<K: Pod, V: Sealed> Table<K, V> {
    /// Seals `value` for `key` and writes it.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn put(&self, key: &K, value: V) -> Result<(), BpfError> {
        self.put_bare(key, &value.sealed(key))
    }

    /// Seals and writes many entries by one system call.
    ///
    /// # Errors
    /// [`BpfError::Map`]; the first entries may have been written.
    pub fn put_all(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<(), BpfError> {
        let (keys, values): (Vec<K>, Vec<V>) =
            entries.into_iter().map(|(key, value)| (key, value.sealed(&key))).unzip();
        if keys.is_empty() {
            return Ok(());
        }
        // SAFETY: the sizes of `K` and `V` were compared with the map's when it was opened, and there is one value.
        unsafe { sys::update_all(self.fd.as_fd(), &keys, &values) }.map_err(self.failed("write"))
    }

    /// Makes the map hold exactly `wanted`: writes what differs, then deletes what is not wanted. Returns how
    /// many entries were written and deleted.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn sync(&self, wanted: impl IntoIterator<Item = (K, V)>) -> Result<(usize, usize), BpfError>
    where
        K: Ord,
    {
        let mut present: std::collections::BTreeMap<K, V> = self.entries()?.into_iter().collect();
        let changed: Vec<_> =
            wanted.into_iter().filter(|(key, value)| present.remove(key) != Some(value.sealed(key))).collect();
        let written = changed.len();
        self.put_all(changed)?;
        let mut deleted = 0;
        for key in present.keys() {
            deleted += usize::from(self.delete(key)?);
        }
        Ok((written, deleted))
    }
}

/// A per-CPU map, opened by its pin; written by the programs alone.
#[derive(Debug)]
pub struct PerCpuTable<K, V> {
    table: Table<K, V>,
    cpus: usize,
}

impl<K: Pod, V: Pod> PerCpuTable<K, V> {
    pub(super) fn open(name: &'static str, path: &Path, writable: bool) -> Result<Self, BpfError> {
        Ok(Self { table: Table::open(name, path, writable)?, cpus: possible_cpus()? })
    }

    /// The map's name.
    pub fn name(&self) -> &'static str {
        self.table.name
    }

    /// What the kernel says about the map.
    pub fn facts(&self) -> MapFacts {
        self.table.facts
    }

    /// How many entries the map can hold.
    pub fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// The values of `key`, one for each possible CPU; empty when it is not there.
    ///
    /// # Errors
    /// [`BpfError::Map`], as for all methods.
    pub fn get(&self, key: &K) -> Result<Vec<V>, BpfError> {
        let mut words = vec![0; self.words()];
        // SAFETY: the sizes were compared when the map was opened; `words` holds a value for each possible CPU.
        let there = unsafe { sys::lookup_per_cpu(self.table.fd.as_fd(), key, &mut words) }
            .map_err(self.table.failed("read"))?;
        Ok(if there { Self::split(&words) } else { Vec::new() })
    }

    /// Every entry, in no order.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn entries(&self) -> Result<Vec<(K, Vec<V>)>, BpfError> {
        let mut all = Vec::new();
        // SAFETY: the sizes were compared when the map was opened; a value for each possible CPU.
        unsafe {
            sys::entries(self.table.fd.as_fd(), self.words(), |key: K, words| all.push((key, Self::split(words))))
        }
        .map_err(self.table.failed("list"))?;
        Ok(all)
    }

    /// How many entries the map holds; counted, so it costs as much as [`Self::entries`].
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn usage(&self) -> Result<usize, BpfError> {
        let mut count = 0;
        // SAFETY: as in `entries`.
        unsafe { sys::entries(self.table.fd.as_fd(), self.words(), |_: K, _| count += 1) }
            .map_err(self.table.failed("list"))?;
        Ok(count)
    }

    /// Deletes `key`; whether it was there.
    ///
    /// # Errors
    /// [`BpfError::Map`].
    pub fn delete(&self, key: &K) -> Result<bool, BpfError> {
        self.table.delete(key)
    }

    fn words(&self) -> usize {
        Table::<K, V>::VALUE_WORDS * self.cpus
    }

    fn split(words: &[u64]) -> Vec<V> {
        words.chunks_exact(Table::<K, V>::VALUE_WORDS).map(from_words).collect()
    }
}

fn from_words<V: Pod>(words: &[u64]) -> V {
    assert_eq!(size_of_val(words), size_of::<V>());
    // SAFETY: as long as `V`; no type of the ABI is aligned to more than 8; every bit pattern of a `Pod` is valid.
    unsafe { words.as_ptr().cast::<V>().read() }
}

/// Opens a pinned map and refuses one whose keys or values have other sizes.
pub(super) fn open(
    name: &'static str,
    path: &Path,
    writable: bool,
    key: usize,
    value: usize,
) -> Result<(OwnedFd, MapFacts), BpfError> {
    let fd = sys::obj_get(path, writable).map_err(|source| no_pin(path, source))?;
    let facts = facts(name, fd.as_fd())?;
    if (facts.key_size as usize, facts.value_size as usize) != (key, value) {
        return Err(BpfError::ForeignMap {
            name,
            path: path.to_owned(),
            found: format!("key {} and value {} bytes", facts.key_size, facts.value_size),
            wanted: format!("{key} and {value}"),
        });
    }
    Ok((fd, facts))
}

pub(super) fn facts(name: &'static str, fd: BorrowedFd<'_>) -> Result<MapFacts, BpfError> {
    sys::map_facts(fd).map_err(|source| BpfError::Map { map: name, operation: "ask for the sizes", source })
}

pub(super) fn no_pin(path: &Path, source: io::Error) -> BpfError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => BpfError::NoPin { path },
        _ => BpfError::OpenPin { path, source },
    }
}

/// How many values a per-CPU entry has: one for each CPU that could ever be there.
pub(super) fn possible_cpus() -> Result<usize, BpfError> {
    let path = PathBuf::from("/sys/devices/system/cpu/possible");
    let text = fs::read_to_string(&path).map_err(|source| BpfError::Proc { path, source })?;
    // "0-3" or "0,2-5": the numbers are dense on every kernel that has BPF, so the last one tells.
    let last = text.trim().rsplit(['-', ',']).next().and_then(|number| number.parse::<usize>().ok());
    Ok(last.unwrap_or(0) + 1)
}
