//! The package: what `skepd install` would place, what dpkg wants to know, what runs when it comes and goes.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use tests::command;

use super::build::{Architecture, must_be_static};
use super::{epoch, version};

/// What runs when the package comes and goes.
const SCRIPTS: [(&str, &str); 3] = [
    ("postinst", include_str!("../../debian/postinst")),
    ("prerm", include_str!("../../debian/prerm")),
    ("postrm", include_str!("../../debian/postrm")),
];
const COPYRIGHT: &str = include_str!("../../debian/copyright");

/// Packs the programs in `theirs`; those in `own` run on this computer and place everything else.
pub(super) fn pack(architecture: Architecture, own: &Path, theirs: &Path, directory: &Path) -> Result<PathBuf> {
    let root = directory.join(architecture.name());
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fs::create_dir_all(&root)?;
    command::run(Command::new(own.join("skepd")).arg("install").arg("--destdir").arg(&root))?;
    for program in ["skepd", "skepctl"] {
        let placed = root.join("usr/bin").join(program);
        fs::copy(theirs.join(program), &placed)?;
        must_be_static(&placed)?;
    }
    let documents = root.join("usr/share/doc/skep");
    fs::create_dir_all(&documents)?;
    write(&documents.join("copyright"), COPYRIGHT, 0o644)?;
    fs::copy(tests::paths::workspace().join("CHANGELOG.md"), documents.join("CHANGELOG.md"))?;
    let version = version()?;
    let control = root.join("DEBIAN");
    fs::create_dir(&control)?;
    for (name, script) in SCRIPTS {
        write(&control.join(name), script, 0o755)?;
    }
    write(&control.join("control"), &self::control(architecture, &version, size(&root)?), 0o644)?;
    write(&control.join("md5sums"), &sums(&root)?, 0o644)?;
    plain_modes(&root)?;
    let package = directory.join(format!("skep_{version}_{}.deb", architecture.name()));
    // Sorted, with the times clamped to that of the commit, and root for the owner of everything.
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.args(["--root-owner-group", "--uniform-compression", "-Zxz", "--threads-max=1", "--build"]);
    command::run(dpkg.arg(&root).arg(&package).env("SOURCE_DATE_EPOCH", epoch()?))?;
    Ok(package)
}

fn control(architecture: Architecture, version: &str, kibibytes: u64) -> String {
    let architecture = architecture.name();
    format!(
        "Package: skep\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: The Skep developers <skep@localhost>\n\
         Installed-Size: {kibibytes}\n\
         Depends: docker.io (>= 20.10) | docker-ce (>= 5:20.10) | moby-engine, nftables, iptables, passwd, systemd\n\
         Suggests: etcd-server (>= 3.4)\n\
         Section: net\n\
         Priority: optional\n\
         Description: private networks for the containers of a Docker host\n \
         Every environment of a project gets a network of its own: services find each\n \
         other by name, nothing crosses from one environment to another, and a database\n \
         is never reachable from outside. Names, isolation and service addresses live\n \
         in the kernel as eBPF programs, not in a daemon.\n"
    )
}

fn write(path: &Path, content: &str, mode: u32) -> Result<()> {
    fs::write(path, content).with_context(|| path.display().to_string())?;
    Ok(fs::set_permissions(path, Permissions::from_mode(mode))?)
}

/// Whatever umask this computer has.
fn plain_modes(directory: &Path) -> Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(directory)? {
        let (path, file) = {
            let entry = entry?;
            (entry.path(), entry.metadata()?)
        };
        if file.is_dir() {
            plain_modes(&path)?;
        } else {
            let mode = if file.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            fs::set_permissions(&path, Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

/// The files below a directory, sorted.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            all.extend(files(&path)?);
        } else {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

/// In KiB, each file rounded up, as dpkg-gencontrol(1) counts.
fn size(root: &Path) -> Result<u64> {
    files(root)?.iter().map(|path| Ok(fs::metadata(path)?.len().div_ceil(1024))).sum()
}

/// What `dpkg --verify` compares with.
fn sums(root: &Path) -> Result<String> {
    let mut lines = String::new();
    for path in files(root)? {
        let name = path.strip_prefix(root)?;
        if !name.starts_with("DEBIAN") {
            let sum = command::run(Command::new("md5sum").arg(&path))?;
            let sum = sum.split_whitespace().next().context("md5sum says nothing")?;
            lines += &format!("{sum}  {}\n", name.display());
        }
    }
    Ok(lines)
}
