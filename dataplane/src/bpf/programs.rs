use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use aya::programs::{CgroupSockAddr, Program as AyaProgram, ProgramError, ProgramInfo, SchedClassifier};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use tracing::info;

use crate::object::OBJECT;

use super::keep::Keep;
use super::links::{self, LinkState, Program};
use super::maps::{self, MapSizes, Maps};
use super::takeover::Takeover;
use super::{BpfError, DeviceHook, Pins, SocketHook, clsact, pins, sys, table};

mod devices;

pub use devices::Attached;
use devices::detach;
pub(super) use devices::devices;

/// The programs, loaded and pinned. Dropping this detaches nothing.
///
/// # Minimum kernel version
/// 6.1; packet programs are attached by tcx links from 6.6, by clsact filters before.
#[derive(Debug)]
pub struct Programs {
    pub(super) pins: Pins,
    cgroup: PathBuf,
    directory: PathBuf,
    loaded: BTreeMap<&'static str, Program>,
    adopted: bool,
    pub(super) tcx: bool,
    keep: Keep,
}

impl Programs {
    /// Opens the pinned maps and programs of this very build, or makes and loads what is missing.
    ///
    /// A map whose type or capacity is not the wanted one is made anew, empty: the programs that are attached go on
    /// with the old one until [`Self::attach_sockets`] and [`Self::attach`] replace them, so fill the maps first.
    /// `cgroup` is where the socket programs go: the cgroup v2 root ([`super::find_cgroup2_root`]).
    ///
    /// # Errors
    /// [`BpfError`], with nothing attached or replaced.
    pub fn load_or_adopt(pins: &Pins, sizes: &MapSizes, cgroup: &Path) -> Result<(Self, Maps), BpfError> {
        Self::prepare(pins, sizes, cgroup, has_tcx())
    }

    /// As [`Self::load_or_adopt`], with clsact filters instead of tcx links, as kernels before 6.6 need them.
    ///
    /// # Errors
    /// As [`Self::load_or_adopt`].
    pub fn load_or_adopt_without_tcx(pins: &Pins, sizes: &MapSizes, cgroup: &Path) -> Result<(Self, Maps), BpfError> {
        Self::prepare(pins, sizes, cgroup, false)
    }

    fn prepare(pins: &Pins, sizes: &MapSizes, cgroup: &Path, tcx: bool) -> Result<(Self, Maps), BpfError> {
        pins.create()?;
        let takeover = Takeover::begin(pins, tcx)?;
        takeover.share(sizes)?;
        let directory = pins.programs().join(digest(OBJECT));
        let stale = stale_maps(pins, sizes)?;
        let complete = pins::names(&directory)?.into_iter().collect::<BTreeSet<_>>();
        let adopted = stale.is_empty() && names().all(|name| complete.contains(name));
        if !adopted {
            let mut object = make_maps(pins, sizes, &stale)?;
            // In this order: a crash in between leaves no program pin that looks right but uses a map of yesterday.
            pins::remove_dir(&directory)?;
            for name in &stale {
                pins::replace(&pins.next().join(name), &pins.map(name))?;
            }
            pins::remove_dir(&pins.next())?;
            takeover.copy(&stale)?;
            // Pins of programs say that the maps are whole.
            pins::make_dir(&directory)?;
            names().try_for_each(|name| load_one(&mut object, name, &directory.join(name)))?;
        }
        for other in pins::names(&pins.programs())? {
            let other = pins.programs().join(other);
            if other != directory {
                pins::remove_dir(&other)?;
            }
        }
        let loaded = names().map(|name| Ok((name, open(&directory.join(name))?))).collect::<Result<_, BpfError>>()?;
        info!(pins = %pins.base().display(), adopted, tcx, "Programs are ready.");
        let keep = Keep::new();
        let maps = maps::layout(sizes).map(|wanted| pins.map(wanted.name));
        for pin in maps.into_iter().chain(names().map(|name| directory.join(name))) {
            keep.hold(&pin).map_err(|source| BpfError::OpenPin { path: pin, source })?;
        }
        let programs = Self { pins: pins.clone(), cgroup: cgroup.to_owned(), directory, loaded, adopted, tcx, keep };
        takeover.finish(&programs)?;
        Ok((programs, Maps::open(pins)?))
    }

    /// Opens the programs that are pinned, this build's if there are any, without a change; `None` when there are none.
    ///
    /// # Errors
    /// [`BpfError::OpenPin`] when one of them is missing.
    pub fn open(pins: &Pins, cgroup: &Path) -> Result<Option<Self>, BpfError> {
        let (own, mut builds) = (digest(OBJECT), pins::names(&pins.programs())?);
        let Some(first) = builds.pop() else { return Ok(None) };
        let build = if builds.contains(&own) { own } else { first };
        let directory = pins.programs().join(build);
        let loaded = names().map(|name| Ok((name, open(&directory.join(name))?))).collect::<Result<_, BpfError>>()?;
        let (pins, cgroup) = (pins.clone(), cgroup.to_owned());
        Ok(Some(Self { pins, cgroup, directory, loaded, adopted: true, tcx: has_tcx(), keep: Keep::new() }))
    }

    /// The pins that somebody removed or replaced; what they stood for is held open, and works on.
    ///
    /// # Errors
    /// [`BpfError::PinDirectory`].
    pub fn missing_pins(&self) -> Result<BTreeSet<PathBuf>, BpfError> {
        let untold = (!self.pins.tells_layout()).then(|| self.pins.layout());
        Ok(self.keep.missing()?.into_iter().chain(untold).collect())
    }

    /// Puts a missing pin back.
    ///
    /// # Errors
    /// [`BpfError::PinDirectory`].
    pub fn restore_pin(&self, pin: &Path) -> Result<(), BpfError> {
        if pin == self.pins.layout() { self.pins.tell_layout() } else { self.keep.restore(pin) }
    }

    /// Whether all was found as this build left it.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// A program's descriptor, for `BPF_PROG_TEST_RUN` ([`super::test_run`]).
    ///
    /// # Errors
    /// [`BpfError::Missing`] for a name that is not a program's.
    pub fn fd(&self, name: &'static str) -> Result<BorrowedFd<'_>, BpfError> {
        Ok(self.program(name)?.fd.as_fd())
    }

    /// How many instructions the verifier walked through for each program.
    ///
    /// # Errors
    /// [`BpfError::Load`] when the kernel does not tell.
    pub fn verified_instructions(&self) -> Result<Vec<(&'static str, u32)>, BpfError> {
        names()
            .map(|name| {
                let info = ProgramInfo::from_pin(self.directory.join(name)).map_err(refused(name))?;
                Ok((name, info.verified_instruction_count().unwrap_or(0)))
            })
            .collect()
    }

    /// Attaches the socket programs to the cgroup: leaves alone what already runs, replaces another build's in place.
    ///
    /// # Errors
    /// [`BpfError::Cgroup`].
    pub fn attach_sockets(&self) -> Result<(), BpfError> {
        SocketHook::ALL.into_iter().try_for_each(|hook| self.attach_socket(hook))
    }

    /// Attaches one of them.
    ///
    /// # Errors
    /// [`BpfError::Cgroup`].
    pub fn attach_socket(&self, hook: SocketHook) -> Result<(), BpfError> {
        let program = self.program(hook.program())?;
        let pin = self.pins.link(hook.program(), None);
        links::ensure_socket(&self.keep, &pin, program, hook, &self.cgroup).map_err(|source| BpfError::Cgroup {
            operation: "attach",
            program: hook.program(),
            path: self.cgroup.clone(),
            source,
        })
    }

    /// The socket programs that do not run at the cgroup as they should.
    ///
    /// # Errors
    /// [`BpfError::Cgroup`].
    pub fn missing_sockets(&self) -> Result<Vec<SocketHook>, BpfError> {
        let failed = |program| {
            move |source| BpfError::Cgroup { operation: "look up", program, path: self.cgroup.clone(), source }
        };
        let mut missing = Vec::new();
        let cgroup = links::cgroup_id(&self.cgroup).map_err(failed("every socket program"))?;
        for hook in SocketHook::ALL {
            let name = hook.program();
            let pin = self.pins.link(name, None);
            let state = links::state(&self.keep, &pin, self.program(name)?, cgroup).map_err(failed(name))?;
            if state != LinkState::Current {
                missing.push(hook);
            }
        }
        Ok(missing)
    }

    /// Detaches everything that is pinned below `pins`, whichever build left it, and removes the pins: `uninstall`.
    /// Goes on after a failure.
    ///
    /// # Errors
    /// Every failure.
    pub fn remove_all(pins: &Pins) -> Result<(), Vec<BpfError>> {
        let mut failures = Vec::new();
        for pins in pins.others().unwrap_or_default().iter().chain([pins]) {
            Self::remove_version(pins, &mut failures);
        }
        // The directory itself may be the mount point of the bpffs, or hold what is not ours: then it stays.
        let _left = std::fs::remove_dir(pins.root());
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }

    fn remove_version(pins: &Pins, failures: &mut Vec<BpfError>) {
        for ifindex in devices(pins, &DeviceHook::ALL).unwrap_or_default() {
            let ifname = clsact::name_of(ifindex).unwrap_or_default();
            failures.extend(detach(pins, &DeviceHook::ALL, ifindex, &ifname).err());
        }
        for hook in SocketHook::ALL {
            failures.extend(links::remove(&pins.link(hook.program(), None)).err());
        }
        // Link pins go first: with them the programs stop, while the maps that they read are still there.
        for path in [pins.links(), pins.programs(), pins.base().to_owned()] {
            failures.extend(pins::remove_dir(&path).err());
        }
    }

    fn program(&self, name: &'static str) -> Result<&Program, BpfError> {
        self.loaded.get(name).ok_or(BpfError::Missing { what: "program", name })
    }
}

/// Every program of the object, by name.
fn names() -> impl Iterator<Item = &'static str> {
    DeviceHook::ALL.into_iter().map(DeviceHook::program).chain(SocketHook::ALL.into_iter().map(SocketHook::program))
}

/// The maps that are missing or not as wanted. aya would take a pinned map of another size as it is.
fn stale_maps(pins: &Pins, sizes: &MapSizes) -> Result<Vec<&'static str>, BpfError> {
    let mut stale = Vec::new();
    for wanted in maps::layout(sizes) {
        let path = pins.map(wanted.name);
        let found = match sys::obj_get(&path, true) {
            Ok(fd) => Some(table::facts(wanted.name, fd.as_fd())?),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(BpfError::OpenPin { path, source }),
        };
        if !found.is_some_and(|found| wanted.fits(&found)) {
            stale.push(wanted.name);
        }
    }
    Ok(stale)
}

/// Makes the object's maps: those that are stale beside the ones of before, which stay when there is no memory.
fn make_maps(pins: &Pins, sizes: &MapSizes, stale: &[&'static str]) -> Result<Ebpf, BpfError> {
    let next = pins.next();
    pins::remove_dir(&next)?;
    pins::make_dir(&next)?;
    let mut loader = EbpfLoader::new();
    for wanted in maps::layout(sizes) {
        let fresh = stale.contains(&wanted.name);
        loader.map_pin_path(wanted.name, if fresh { next.join(wanted.name) } else { pins.map(wanted.name) });
        if let Some(entries) = wanted.max_entries {
            loader.map_max_entries(wanted.name, entries);
        }
    }
    loader.load(OBJECT).map_err(|error| {
        let _left = pins::remove_dir(&next);
        maps::not_made(sizes, error)
    })
}

fn load_one(object: &mut Ebpf, name: &'static str, pin: &Path) -> Result<(), BpfError> {
    let program = object.program_mut(name).ok_or(BpfError::Missing { what: "program", name })?;
    let mut attempts = 0;
    loop {
        let loaded = match program {
            AyaProgram::SchedClassifier(program) => SchedClassifier::load(program),
            AyaProgram::CgroupSockAddr(program) => CgroupSockAddr::load(program),
            _ => return Err(BpfError::Missing { what: "tc or socket program", name }),
        };
        attempts += 1;
        match loaded {
            Err(error) if attempts < LOAD_ATTEMPTS && is_interrupted(&error) => {}
            loaded => break loaded.map_err(refused(name))?,
        }
    }
    let fd = program.fd().map_err(refused(name))?;
    sys::obj_pin(fd.as_fd(), pin).map_err(|source| BpfError::PinDirectory {
        operation: "pin a program at",
        path: pin.to_owned(),
        source,
    })
}

/// How often a program is loaded whose verification is interrupted.
const LOAD_ATTEMPTS: usize = 5;

/// The verifier stops when a signal waits, even one that is then ignored.
fn is_interrupted(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, .. } if io_error.raw_os_error() == Some(libc::EAGAIN))
}

fn refused(program: &'static str) -> impl FnOnce(ProgramError) -> BpfError {
    move |error| BpfError::refused(program, error)
}

fn open(pin: &Path) -> Result<Program, BpfError> {
    let failed = |source| BpfError::OpenPin { path: pin.to_owned(), source };
    let fd = sys::obj_get(pin, true).map_err(failed)?;
    let id = sys::program_id(fd.as_fd()).map_err(failed)?;
    Ok(Program { fd, id })
}

/// Whether the kernel has tcx links. One that does not tell its version is taken for a new one: attaching says more.
fn has_tcx() -> bool {
    KernelVersion::current().map_or(true, |version| version >= KernelVersion::new(6, 6, 0))
}

/// FNV-1a: tells builds apart (it need not resist anybody: who can write pins is root).
fn digest(object: &[u8]) -> String {
    let hash = object
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}
