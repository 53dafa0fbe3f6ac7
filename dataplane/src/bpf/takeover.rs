//! Another version's pins are there: an upgrade, or the way back. What they hold goes on under this version's.
//!
//! A map that is laid out the same in both versions is shared: pinned under both, the same map for the programs of
//! either. What an older version lays out otherwise is converted ([`changes`]). What a newer one does cannot be known:
//! such a map is made anew, and the agent fills it from the store before it replaces a program.
//!
//! Whatever happens in between, what runs is told by the links alone, wherever they are pinned: a version whose
//! programs no link runs has nothing to say, and its pins are what an attempt left.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use dataplane_ebpf::abi::changes::{self, Change};
use dataplane_ebpf::abi::{ABI_VERSION, map};
use tracing::{info, warn};

use super::maps::{self, MapSizes};
use super::programs::devices;
use super::{Attached, BpfError, DeviceHook, MapFacts, Pins, Programs, SocketHook, clsact, pins, sys, table};

/// `BPF_NOEXIST`: what the new programs wrote meanwhile is newer.
const NOEXIST: u64 = 1;
/// What the programs write: copied again when the last old one has ended.
const WRITTEN_BY_PROGRAMS: [&str; 4] = [map::FLOWS, map::BUDGETS, map::COUNTERS, map::DROPS];
/// How often an entry is read that somebody changes.
const ATTEMPTS: usize = 4;

/// What is taken over from other versions; of none, when there is none.
#[derive(Debug)]
pub(super) struct Takeover<'a> {
    pins: &'a Pins,
    others: Vec<Pins>,
    /// Those of the others whose programs run.
    sources: Vec<Pins>,
}

impl<'a> Takeover<'a> {
    /// Looks for other versions. If one of them runs and this does not, what is pinned of this is an attempt's and goes.
    pub(super) fn begin(pins: &'a Pins, tcx: bool) -> Result<Self, BpfError> {
        let others = pins.others()?;
        if others.is_empty() {
            return Ok(Self { pins, others, sources: Vec::new() });
        }
        let running = running(pins, &others, tcx)?;
        let mut sources = Vec::new();
        for other in &others {
            if runs(other, &running)? {
                sources.push(other.clone());
            }
        }
        if !sources.is_empty() && !runs(pins, &running)? {
            pins::remove_dir(&pins.programs())?;
            for map in maps::layout(&MapSizes::default()) {
                pins::unpin(&pins.map(map.name))?;
            }
            pins.create()?;
        }
        Ok(Self { pins, others, sources })
    }

    /// Pins the maps that are the same in both versions under this one too.
    pub(super) fn share(&self, sizes: &MapSizes) -> Result<(), BpfError> {
        for wanted in maps::layout(sizes) {
            let own = self.pins.map(wanted.name);
            for source in self.sources.iter().filter(|source| is_same(source, wanted.name)) {
                let theirs = source.map(wanted.name);
                if own.exists() || !theirs.exists() {
                    continue;
                }
                let fd = sys::obj_get(&theirs, true).map_err(|source| table::no_pin(&theirs, source))?;
                if wanted.fits(&table::facts(wanted.name, fd.as_fd())?) {
                    // Programs of this version that are pinned use another map, if any.
                    pins::remove_dir(&self.pins.programs())?;
                    pins::make_dir(&self.pins.programs())?;
                    sys::obj_pin(fd.as_fd(), &own).map_err(|source| BpfError::PinDirectory {
                        operation: "pin a map at",
                        path: own.clone(),
                        source,
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Copies what the others hold into maps that were just made.
    pub(super) fn copy(&self, made: &[&'static str]) -> Result<(), BpfError> {
        for name in made {
            for source in &self.sources {
                if let Some(changes) = path_to(source, name) {
                    let copied = copy(name, source, self.pins, &changes)?;
                    info!(map = name, from = source.version(), entries = copied, "Copied a map of another version.");
                }
            }
        }
        Ok(())
    }

    /// Has every link run this version's programs, if all of their maps are as full as the old ones'. If not, that is the
    /// agent's, which fills them first.
    pub(super) fn finish(&self, programs: &Programs) -> Result<(), BpfError> {
        for other in &self.others {
            for name in pins::names(&other.links())? {
                pins::replace(&other.links().join(&name), &self.pins.links().join(&name))?;
            }
        }
        let all = maps::layout(&MapSizes::default());
        let whole = |source: &Pins| all.iter().all(|map| path_to(source, map.name).is_some());
        if self.sources.is_empty() || !self.sources.iter().all(whole) {
            return Ok(());
        }
        self.replace(programs)?;
        for name in WRITTEN_BY_PROGRAMS {
            for source in &self.sources {
                if let Some(changes) = path_to(source, name) {
                    copy(name, source, self.pins, &changes)?;
                }
            }
        }
        let versions: Vec<_> = self.sources.iter().map(Pins::version).collect();
        info!(from = ?versions, to = self.pins.version(), "Replaced the programs of another version.");
        Ok(())
    }

    /// Replaces behind links that are there; a device that is just going is the agent's.
    fn replace(&self, programs: &Programs) -> Result<(), BpfError> {
        for hook in SocketHook::ALL {
            if self.pins.link(hook.program(), None).exists() {
                programs.attach_socket(hook)?;
            }
        }
        let veths = programs.attached()?.into_iter().map(|device| (device, &DeviceHook::VETH[..]));
        let tunnels = programs.tunnels()?.into_iter().map(|device| (device, &DeviceHook::TUNNEL[..]));
        for ((ifindex, state), hooks) in veths.chain(tunnels) {
            let name = clsact::name_of(ifindex).filter(|_| state == Attached::Partly);
            if let Some(Err(error)) = name.map(|name| programs.attach_all(hooks, ifindex, &name)) {
                warn!(ifindex, %error, "Could not replace the programs of another version; trying again.");
            }
        }
        Ok(())
    }
}

impl Programs {
    /// Versions of the ABI whose pins are still there though none of their programs runs: [`Self::retire`] them.
    ///
    /// # Errors
    /// [`BpfError::OpenPin`].
    pub fn superseded(&self) -> Result<BTreeSet<u32>, BpfError> {
        superseded(&self.pins, self.tcx)
    }

    /// Takes the pins of another version away, unless one of its programs runs.
    ///
    /// # Errors
    /// [`BpfError::PinDirectory`].
    pub fn retire(&self, version: u32) -> Result<(), BpfError> {
        let superseded = self.superseded()?;
        let others = self.pins.others()?.into_iter();
        let mut gone = others.filter(|other| other.version() == version && superseded.contains(&version));
        gone.try_for_each(|other| pins::remove_dir(other.base()))
    }
}

/// The versions that are pinned and of which no program runs any more.
fn superseded(pins: &Pins, tcx: bool) -> Result<BTreeSet<u32>, BpfError> {
    let others = pins.others()?;
    if others.is_empty() {
        return Ok(BTreeSet::new());
    }
    let running = running(pins, &others, tcx)?;
    let mut idle = BTreeSet::new();
    for other in others {
        if !runs(&other, &running)? {
            idle.insert(other.version());
        }
    }
    Ok(idle)
}

/// Ids of the programs that links and filters run, whichever version pinned them.
fn running(own: &Pins, others: &[Pins], tcx: bool) -> Result<BTreeSet<u32>, BpfError> {
    let mut running = BTreeSet::new();
    for pins in others.iter().chain([own]) {
        let device_hooks = DeviceHook::ALL.map(DeviceHook::program);
        for name in pins::names(&pins.links())? {
            // Where there are no links to devices, a pin only says that there is a filter.
            if !tcx && device_hooks.iter().any(|hook| name.starts_with(hook)) {
                continue;
            }
            let path = pins.links().join(name);
            let facts = sys::obj_get(&path, true).and_then(|link| sys::link_facts(link.as_fd()));
            running.insert(facts.map_err(|source| BpfError::OpenPin { path, source })?.program);
        }
        if !tcx {
            for ifindex in devices(pins, &DeviceHook::ALL)? {
                for hook in DeviceHook::ALL {
                    let filter = clsact::filter(hook, ifindex).map_err(|source| BpfError::Device {
                        operation: "look up",
                        program: hook.program(),
                        ifname: clsact::name_of(ifindex).unwrap_or_default(),
                        ifindex,
                        source,
                    });
                    // One that is gone has no filters.
                    running.extend(filter.ok().flatten());
                }
            }
        }
    }
    Ok(running)
}

/// Whether one of the programs that are pinned there runs.
fn runs(pins: &Pins, running: &BTreeSet<u32>) -> Result<bool, BpfError> {
    for build in pins::names(&pins.programs())? {
        let directory = pins.programs().join(build);
        for name in pins::names(&directory)? {
            if running.contains(&id(&directory.join(name))?) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn id(program: &Path) -> Result<u32, BpfError> {
    let id = sys::obj_get(program, true).and_then(|program| sys::program_id(program.as_fd()));
    id.map_err(|source| BpfError::OpenPin { path: program.to_owned(), source })
}

/// Whether a map of theirs is laid out as it is here.
fn is_same(source: &Pins, map: &str) -> bool {
    path_to(source, map).is_some_and(|changes| changes.is_empty())
}

/// The changes that make of a map of theirs one of this version: none when it is the same; `None` when it cannot be told.
fn path_to(source: &Pins, map: &str) -> Option<Vec<&'static Change>> {
    // Flows hold for an epoch, which is in NODE.
    if map == map::FLOWS {
        path_to(source, map::NODE)?;
    }
    if source.version() < ABI_VERSION {
        return Some(changes::after(source.version(), map).collect());
    }
    // A newer one says since when each map is as it is; a version as old as that has it the same.
    source.since(map).filter(|since| *since <= ABI_VERSION).map(|_| Vec::new())
}

/// Copies what is not there yet, and gives the number of entries: none of a map that is shared. What is torn is read
/// again.
fn copy(name: &'static str, from: &Pins, to: &Pins, changes: &[&Change]) -> Result<usize, BpfError> {
    // A map that came without a change of any other is not in what an older build of that version left.
    if !from.map(name).exists() {
        return Ok(0);
    }
    let (old, new) = (Side::open(name, from)?, Side::open(name, to)?);
    if !old.facts.has_entries() || old.facts.id == new.facts.id {
        return Ok(0);
    }
    let size = changes.last().map_or(old.facts.value_size as usize, |change| change.size);
    if (old.facts.key_size, size) != (new.facts.key_size, new.facts.value_size as usize) {
        return Err(BpfError::ForeignMap {
            name,
            path: from.map(name),
            found: format!("key {} and value {} bytes", old.facts.key_size, old.facts.value_size),
            wanted: format!("what becomes key {} and value {}", new.facts.key_size, new.facts.value_size),
        });
    }
    // An array has all of its elements from the beginning.
    let flags = if old.facts.is_array() { 0 } else { NOEXIST };
    let failed = |operation| move |source| BpfError::Map { map: name, operation, source };
    let mut copied = 0;
    for _ in 0..ATTEMPTS {
        let (mut torn, mut error) = (false, None);
        let each = |key: &[u8], values: &[u64]| match convert(key, values, old.words(), changes) {
            None => torn = true,
            // SAFETY: the sizes were compared above, and `convert` gives as many values as it is given.
            Some(values) => match unsafe { sys::put_octets(new.fd.as_fd(), key, &values, flags) } {
                Ok(written) => copied += usize::from(written),
                Err(source) => error = Some(source),
            },
        };
        // SAFETY: key size and words are as the kernel says of this map.
        unsafe { sys::octets(old.fd.as_fd(), old.facts.key_size as usize, old.words() * old.values, each) }
            .map_err(failed("list"))?;
        if let Some(source) = error {
            return Err(failed("write")(source));
        }
        if !torn {
            break;
        }
    }
    Ok(copied)
}

/// One of the two maps of a copy.
struct Side {
    fd: OwnedFd,
    facts: MapFacts,
    /// Values of an entry: one, or one for each CPU.
    values: usize,
}

impl Side {
    fn open(name: &'static str, pins: &Pins) -> Result<Self, BpfError> {
        let path = pins.map(name);
        let fd = sys::obj_get(&path, true).map_err(|source| table::no_pin(&path, source))?;
        let facts = table::facts(name, fd.as_fd())?;
        let values = if facts.is_per_cpu() { table::possible_cpus()? } else { 1 };
        Ok(Self { fd, facts, values })
    }

    /// Words of one value.
    fn words(&self) -> usize {
        self.facts.value_size as usize / 8
    }
}

/// Each of the values of an entry, `words` long, after all changes; `None` when one of them makes nothing of it.
fn convert(key: &[u8], values: &[u64], words: usize, changes: &[&Change]) -> Option<Vec<u64>> {
    let mut converted = Vec::new();
    for value in values.chunks_exact(words) {
        let mut value: Vec<u8> = value.iter().flat_map(|word| word.to_ne_bytes()).collect();
        for change in changes {
            let mut next = vec![0; change.size];
            if !(change.convert)(key, &value, &mut next) {
                return None;
            }
            value = next;
        }
        converted.extend(value.chunks_exact(8).filter_map(|word| Some(u64::from_ne_bytes(*word.first_chunk()?))));
    }
    Some(converted)
}
