use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dataplane_ebpf::abi::{ABI_VERSION, changes};

use super::{BpfError, MapSizes, maps};

/// Where everything is pinned. Nothing is opened or made by naming it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pins {
    root: PathBuf,
    base: PathBuf,
    version: u32,
}

impl Pins {
    /// The pins below `bpffs`, a directory on a bpffs that belongs to one daemon.
    pub fn new(bpffs: &Path) -> Self {
        Self::of_version(bpffs, ABI_VERSION)
    }

    fn of_version(bpffs: &Path, version: u32) -> Self {
        Self { root: bpffs.to_owned(), base: bpffs.join(format!("v{version}")), version }
    }

    /// Those of the other versions that are there, the newest first.
    pub(super) fn others(&self) -> Result<Vec<Self>, BpfError> {
        let names = names(&self.root)?;
        let numbers = names.iter().filter_map(|name| name.strip_prefix('v')?.parse().ok());
        let mut versions: Vec<u32> = numbers.filter(|version| *version != self.version).collect();
        versions.sort_unstable_by(|a, b| b.cmp(a));
        Ok(versions.into_iter().map(|version| Self::of_version(&self.root, version)).collect())
    }

    /// The version of the ABI that they are of.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// The directory given to [`Self::new`].
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `<bpffs>/v<ABI_VERSION>`.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The pin of a map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    /// The directory of the link pins.
    pub fn links(&self) -> PathBuf {
        self.base.join("links")
    }

    /// The pin of a program's link: to the device `ifindex`, or to the cgroup.
    pub fn link(&self, program: &str, ifindex: Option<u32>) -> PathBuf {
        match ifindex {
            Some(ifindex) => self.links().join(format!("{program}-{ifindex}")),
            None => self.links().join(program),
        }
    }

    /// The directory of the program pins, one directory per build in it.
    pub fn programs(&self) -> PathBuf {
        self.base.join("programs")
    }

    /// Where maps are made before they take the place of those of before.
    pub(super) fn next(&self) -> PathBuf {
        self.base.join("next")
    }

    /// Makes the directories, readable by root only, and writes down how the maps are laid out.
    pub(super) fn create(&self) -> Result<(), BpfError> {
        for path in [&self.base, &self.links(), &self.programs()] {
            make_dir(path)?;
        }
        if self.tells_layout() { Ok(()) } else { self.tell_layout() }
    }

    /// Since which version each map is laid out as it is: for versions that come before this one and know nothing of it.
    /// A bpffs holds no files, but symbolic links, whose target is any text.
    pub(super) fn layout(&self) -> PathBuf {
        self.base.join("layout")
    }

    /// Whether it says so.
    pub(super) fn tells_layout(&self) -> bool {
        fs::read_link(self.layout()).is_ok_and(|told| told.as_os_str() == layout_text().as_str())
    }

    /// Writes it down, in the place of whatever is there.
    pub(super) fn tell_layout(&self) -> Result<(), BpfError> {
        let path = self.layout();
        unpin(&path)?;
        std::os::unix::fs::symlink(layout_text(), &path).map_err(|source| BpfError::PinDirectory {
            operation: "write",
            path,
            source,
        })
    }

    /// Since which version a map of theirs is laid out as it is, as they were told when they were made.
    pub(super) fn since(&self, map: &str) -> Option<u32> {
        let text = fs::read_link(self.layout()).ok()?;
        let mut words = text.to_str()?.split(' ').filter_map(|word| word.split_once('='));
        words.find_map(|(name, version)| (name == map).then(|| version.parse().ok())?)
    }
}

/// See [`Pins::layout`].
fn layout_text() -> String {
    let maps = maps::layout(&MapSizes::default()).map(|map| map.name);
    maps.map(|name| format!("{name}={}", changes::since(name))).join(" ")
}

/// Makes a directory and what is above it, with mode 0700: map pins are keys to every tenant.
pub(super) fn make_dir(path: &Path) -> Result<(), BpfError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| BpfError::PinDirectory {
        operation: "make",
        path: path.to_owned(),
        source,
    })
}

/// Removes a file; that it was not there is fine.
pub(super) fn unpin(path: &Path) -> Result<(), BpfError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(BpfError::PinDirectory { operation: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Puts a pin in the place of another, in one step.
pub(super) fn replace(from: &Path, to: &Path) -> Result<(), BpfError> {
    let failed = |source| BpfError::PinDirectory { operation: "replace", path: to.to_owned(), source };
    fs::rename(from, to).map_err(failed)
}

/// Names in a directory of pins; empty when the directory is not there.
pub(super) fn names(path: &Path) -> Result<Vec<String>, BpfError> {
    let failed = |source| BpfError::PinDirectory { operation: "read", path: path.to_owned(), source };
    match fs::read_dir(path) {
        Ok(entries) => entries
            .map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_, _>>(),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(failed(source)),
    }
}

/// Removes a directory of pins with all that is in it (bpffs has only files and directories).
pub(super) fn remove_dir(path: &Path) -> Result<(), BpfError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(BpfError::PinDirectory { operation: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
