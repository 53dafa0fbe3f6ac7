use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dataplane_ebpf::abi::ABI_VERSION;

use super::BpfError;

/// Where everything is pinned. Nothing is opened or made by naming it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pins {
    root: PathBuf,
    base: PathBuf,
}

impl Pins {
    /// The pins below `bpffs`, a directory on a bpffs that belongs to one daemon.
    pub fn new(bpffs: &Path) -> Self {
        Self { root: bpffs.to_owned(), base: bpffs.join(format!("v{ABI_VERSION}")) }
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

    /// Makes the directories, readable by root only.
    pub(super) fn create(&self) -> Result<(), BpfError> {
        for path in [&self.base, &self.links(), &self.programs()] {
            make_dir(path)?;
        }
        Ok(())
    }
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
