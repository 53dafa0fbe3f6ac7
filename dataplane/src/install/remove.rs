//! The way back, as part of `skepd uninstall`.

use std::fs;
use std::io;
use std::path::Path;

use super::apply::{run, systemctl};
use super::error::InstallError;
use super::facts::{Facts, Manager, manager};
use super::{GROUP, UNITS, UNITS_ON_DEMAND, files};

/// Lists what dpkg has installed; there when Skep came as a package.
pub(super) const PACKAGE: &str = "/var/lib/dpkg/info/skep.list";

/// Whether a unit runs.
pub fn is_running() -> bool {
    Facts::gather(&[]).is_ok_and(|facts| facts.units.values().any(|unit| unit.active))
}

/// Whether the daemon is a unit of this machine, which runs or would with the next start.
pub fn has_unit() -> bool {
    Facts::gather(&[]).is_ok_and(|facts| facts.units.get(UNITS[0]).is_some_and(|unit| unit.active || unit.enabled))
}

/// Stops the units, if this machine has them.
///
/// # Errors
/// [`InstallError`] when one does not stop.
pub fn stop() -> Result<(), InstallError> {
    let facts = Facts::gather(&[])?;
    // The daemon first: it would start the others again.
    let units = UNITS.into_iter().chain(UNITS_ON_DEMAND);
    let mut running = units.filter(|unit| facts.units.get(unit).is_some_and(|state| state.active));
    running.try_for_each(|unit| systemctl(&["stop", unit]))
}

/// Takes units, programs, man pages, completions and the group away. Goes on after an error.
///
/// What a package brought stays, for the package's own removal.
///
/// # Errors
/// Every [`InstallError`].
pub fn remove() -> Result<(), Vec<InstallError>> {
    let mut errors = Vec::new();
    match Facts::gather(&[]) {
        Ok(facts) => {
            let enabled = facts.units.iter().filter(|(_, unit)| unit.enabled);
            errors.extend(enabled.filter_map(|(unit, _)| systemctl(&["disable", "--quiet", unit]).err()));
            if facts.group {
                errors.extend(run("groupdel", "passwd", &[GROUP]).err());
            }
        }
        Err(error) => errors.push(error),
    }
    if Path::new(PACKAGE).exists() {
        println!("Its files are a package's: apt-get purge skep removes them.");
    } else {
        errors.extend(remove_files());
    }
    if manager() == Manager::Running {
        errors.extend(systemctl(&["daemon-reload"]).err());
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn remove_files() -> Vec<InstallError> {
    let files = match files::all() {
        Ok(files) => files,
        Err(error) => return vec![error],
    };
    let removed = files.into_iter().map(|file| match fs::remove_file(&file.path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(InstallError::file("remove", file.path)(source)),
        _ => Ok(()),
    });
    removed.filter_map(Result::err).collect()
}
