use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use super::GROUP;
use super::error::InstallError;
use super::files::File;
use super::step::Step;

pub(super) fn apply(step: &Step) -> Result<(), InstallError> {
    match step {
        Step::Place(file) => place(file),
        Step::AddGroup => run("groupadd", "passwd", &["--system", GROUP]),
        Step::Reload => systemctl(&["daemon-reload"]),
        Step::Enable(unit) => systemctl(&["enable", "--quiet", unit]),
        Step::Start(unit) => systemctl(&["start", unit]),
        Step::Restart(unit) => systemctl(&["restart", unit]),
    }
}

/// Beside the old file first, then in its place: who runs the old one goes on with it.
pub(super) fn place(file: &File) -> Result<(), InstallError> {
    let path = &file.path;
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(InstallError::file("make", directory))?;
    let mut new = path.clone().into_os_string();
    new.push(".skep-new");
    let write = || {
        let mut open = OpenOptions::new().write(true).create(true).truncate(true).mode(file.mode).open(&new)?;
        open.write_all(&file.content)?;
        // Whatever umask there is.
        open.set_permissions(Permissions::from_mode(file.mode))?;
        open.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(InstallError::file("write", path))
}

pub(super) fn systemctl(arguments: &[&str]) -> Result<(), InstallError> {
    run("systemctl", "systemd", arguments)
}

pub(super) fn run(program: &'static str, package: &'static str, arguments: &[&str]) -> Result<(), InstallError> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|source| InstallError::Missing { program, package, source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(InstallError::Failed { command: [&[program], arguments].concat().join(" "), said })
}
