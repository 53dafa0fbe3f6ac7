//! What there is on this machine; nothing is changed by looking.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::InstallError;
use super::files::{File, PROGRAMS};
use super::{GROUP, UNITS, UNITS_ON_DEMAND};

/// systemd on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// None.
    Absent,
    /// Installed, but it is not what this machine runs now: an image that is being made.
    Asleep,
    /// It runs the machine.
    Running,
}

/// A unit, as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unit {
    /// Starts with the machine.
    pub enabled: bool,
    /// Its process is there, or is being started again and again.
    pub active: bool,
    /// The process runs the program that is installed.
    pub current: bool,
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Files of the installation that are as they should be.
    pub placed: Vec<PathBuf>,
    /// The group exists.
    pub group: bool,
    /// systemd.
    pub manager: Manager,
    /// Units of [`UNITS`] and [`UNITS_ON_DEMAND`], by name.
    pub units: BTreeMap<&'static str, Unit>,
}

impl Facts {
    /// Looks at the machine.
    ///
    /// # Errors
    /// [`InstallError::Missing`] when systemctl cannot be run where systemd runs.
    pub fn gather(files: &[File]) -> Result<Self, InstallError> {
        let manager = manager();
        let mut units = BTreeMap::new();
        if manager != Manager::Absent {
            for name in UNITS.into_iter().chain(UNITS_ON_DEMAND) {
                units.insert(name, unit(name, manager)?);
            }
        }
        let placed = files.iter().filter(|file| is_placed(file)).map(|file| file.path.clone()).collect();
        let group = nix::unistd::Group::from_name(GROUP).is_ok_and(|group| group.is_some());
        Ok(Self { placed, group, manager, units })
    }
}

/// As sd_booted(3) asks.
pub(super) fn manager() -> Manager {
    let on_path = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join("systemctl").is_file())
    };
    match Path::new("/run/systemd/system").is_dir() {
        true => Manager::Running,
        false if on_path() => Manager::Asleep,
        false => Manager::Absent,
    }
}

fn is_placed(file: &File) -> bool {
    fs::metadata(&file.path).is_ok_and(|there| {
        there.is_file()
            && there.permissions().mode() & 0o7777 == file.mode
            && there.len() == file.content.len() as u64
            && fs::read(&file.path).is_ok_and(|content| content == file.content)
    })
}

fn unit(name: &str, manager: Manager) -> Result<Unit, InstallError> {
    let enabled = ask(&["is-enabled", name])? == "enabled";
    if manager != Manager::Running {
        return Ok(Unit { enabled, ..Unit::default() });
    }
    let active = matches!(ask(&["is-active", name])?.as_str(), "active" | "activating" | "reloading");
    let pid = ask(&["show", "--property=MainPID", "--value", name])?;
    Ok(Unit { enabled, active, current: runs_installed(&pid) })
}

/// Whether a process runs the very file that is installed.
fn runs_installed(pid: &str) -> bool {
    let inode = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let running = inode(&Path::new("/proc").join(pid).join("exe"));
    running.is_some() && running == inode(&Path::new(PROGRAMS).join("skepd"))
}

/// What systemctl says, whatever its exit status, which repeats that.
fn ask(arguments: &[&str]) -> Result<String, InstallError> {
    let output = Command::new("systemctl").args(arguments).output();
    let output = output.map_err(|source| InstallError::Missing { program: "systemctl", package: "systemd", source })?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
