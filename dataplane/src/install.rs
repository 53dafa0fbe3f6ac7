//! `skepd install`: this machine's own daemon, as units of systemd.
//!
//! What should be is a list of files ([`files`]) and a few facts; [`plan`] compares it with what is ([`Facts`]) and
//! gives the steps that are missing, which are printed (`--dry-run`) or done. [`Upgrade`] does them so that they can be
//! undone, [`remove`] is the way back.

mod apply;
pub mod documents;
mod error;
mod facts;
mod files;
mod remove;
mod step;
mod upgrade;

use std::path::Path;

pub use error::InstallError;
pub use facts::{Facts, Manager, Unit};
pub use files::File;
pub use remove::{has_unit, is_running, remove, stop};
pub use step::{Step, plan};
pub use upgrade::Upgrade;

/// The daemon, then the forwarder for outside names, which outlives its restarts.
pub const UNITS: [&str; 2] = ["skepd.service", "skepd-dns.service"];
/// Started by the daemon or by `skepd cluster init` when they need them, and not anew by an installation or an upgrade. Only the
/// member of etcd starts with the machine, once there is one.
pub const UNITS_ON_DEMAND: [&str; 2] = ["skepd-tunnel.service", ETCD_UNIT];
/// The member of etcd that `skepd cluster init` makes.
pub const ETCD_UNIT: &str = "skepd-etcd.service";
/// Whose members may use the API.
pub const GROUP: &str = "skep";

/// How to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Whether the units start with the machine is left as it is.
    pub keep_enablement: bool,
}

/// What is missing on this machine.
///
/// # Errors
/// [`InstallError`] when the programs or the machine cannot be read.
pub fn missing(wanted: Wanted) -> Result<Vec<Step>, InstallError> {
    let files = files::all()?;
    let facts = Facts::gather(&files)?;
    Ok(plan(files, &facts, wanted))
}

/// Does the steps in their order, each said before it is done.
///
/// # Errors
/// [`InstallError`] of the first that fails: the later ones need it.
pub fn run(steps: &[Step]) -> Result<(), InstallError> {
    for step in steps {
        println!("{step}");
        apply::apply(step)?;
    }
    Ok(())
}

/// Places the files below `directory`, and does nothing else.
///
/// # Errors
/// [`InstallError`].
pub fn place_below(directory: &Path) -> Result<(), InstallError> {
    files::all()?.iter().try_for_each(|file| apply::place(&file.below(directory)))
}
