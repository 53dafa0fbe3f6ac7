use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory as _;

use super::ETCD_UNIT;
use super::documents::{self, Documents};
use super::error::InstallError;
use crate::config::Args;

/// Where the programs belong.
pub(super) const PROGRAMS: &str = "/usr/bin";
/// Where packages put units; those in `/etc/systemd/system` are the administrator's, and override them.
const UNITS: &str = "/usr/lib/systemd/system";
const SHARE: &str = "/usr/share";

/// See the files themselves.
const UNIT_FILES: [(&str, &str); 5] = [
    ("skepd.service", include_str!("../../units/skepd.service")),
    ("skepd-dns.service", include_str!("../../units/skepd-dns.service")),
    ("skepd-tunnel.service", include_str!("../../units/skepd-tunnel.service")),
    (ETCD_UNIT, include_str!("../../units/skepd-etcd.service")),
    ("skepd-bpffs.service", include_str!("../../units/skepd-bpffs.service")),
];

/// A file of the installation.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Absolute.
    pub path: PathBuf,
    /// Permissions; the owner is root.
    pub mode: u32,
    /// What is in it.
    pub content: Vec<u8>,
}

impl File {
    /// The same below another root.
    pub(super) fn below(&self, directory: &Path) -> Self {
        let path = directory.join(self.path.strip_prefix("/").unwrap_or(&self.path));
        Self { path, ..self.clone() }
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (mode {:o}, {} bytes)", self.path.display(), self.mode, self.content.len())
    }
}

/// Every file that belongs to the installation: the programs first, so that no unit names one that is not there.
pub(super) fn all() -> Result<Vec<File>, InstallError> {
    let own = std::env::current_exe().map_err(InstallError::file("find", "/proc/self/exe"))?;
    let ctl = own.with_file_name("skepctl");
    if !ctl.is_file() {
        return Err(InstallError::NoProgram { path: ctl });
    }
    let mut files = Vec::new();
    // What runs, even after its file was replaced.
    for (name, source) in [("skepd", Path::new("/proc/self/exe")), ("skepctl", &ctl)] {
        let content = fs::read(source).map_err(InstallError::file("read", source))?;
        files.push(File { path: Path::new(PROGRAMS).join(name), mode: 0o755, content });
    }
    let text = |path: PathBuf, content: &str| File { path, mode: 0o644, content: content.as_bytes().to_vec() };
    files.extend(UNIT_FILES.iter().map(|(name, content)| text(Path::new(UNITS).join(name), content)));
    let own = documents::of(Args::command(), 8).map_err(InstallError::file("write", "the manual"))?;
    for (path, content) in own.into_iter().chain(documents_of(&ctl)?) {
        files.push(text(Path::new(SHARE).join(path), &content));
    }
    Ok(files)
}

/// What the other program has to say of itself.
fn documents_of(program: &Path) -> Result<Documents, InstallError> {
    let output = Command::new(program).arg("documents").output().map_err(InstallError::file("run", program))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|source| InstallError::Documents { path: program.to_owned(), source })
}
