//! Packages of the host's own distribution, unpacked into a root.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::{apt::Apt, command};

/// Documentation, translations, PostgreSQL's JIT compiler (LLVM) and other tests' files: half of the size.
const NOT_WANTED: &str = "usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/lintian usr/share/perl \
    usr/share/bash-completion usr/lib/*/libLLVM* usr/lib/llvm* usr/lib/postgresql/*/lib/llvmjit* \
    usr/lib/postgresql/*/lib/bitcode usr/lib/*/libicudata.a usr/lib/*/gconv usr/lib/*/perl* usr/lib/locale";
/// Where a root says what it was made of, as an installed system does.
const STATUS: &str = "var/lib/dpkg/status";
/// `$1` the root, `$2` the directory of the packages, `$3` what is not wanted.
const UNPACK: &str = "cd \"$1\"
    # For packages that ship everything in /usr; one that has a directory of this name replaces the link.
    for name in bin sbin lib lib64; do mkdir -p usr/$name; ln -s usr/$name $name; done
    mkdir -p var/lib/dpkg
    for package in \"$2\"/*.deb; do
        dpkg-deb --extract \"$package\" .
        { dpkg-deb --field \"$package\"; echo 'Status: install ok unpacked'; echo; } >>var/lib/dpkg/status
    done
    rm -rf $3";

/// Where packages are from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// This computer's own distribution.
    Host,
    /// This release of Debian.
    Release(&'static str),
}

/// Everything that unpacking does.
pub(crate) fn recipe() -> String {
    [UNPACK, NOT_WANTED].join("\n")
}

/// Downloads the packages and all they depend on, and unpacks them into `root`.
pub(crate) fn unpack(root: &Path, names: &[&str], source: Source) -> Result<()> {
    let downloads = tempfile::tempdir_in(root)?;
    match source {
        Source::Host => download(downloads.path(), names)?,
        Source::Release(release) => Apt::new()?.download_closure(names, release, downloads.path())?,
    }
    let archives = downloads.path().join("archives");
    command::run(Command::new("sh").args(["-ec", UNPACK, "unpack"]).arg(root).arg(archives).arg(NOT_WANTED)).map(drop)
}

/// Downloads the packages and all they depend on into `directory/archives`.
///
/// APT is told that nothing is installed, so that it gives the whole closure; the host's own state is only read.
fn download(directory: &Path, names: &[&str]) -> Result<()> {
    fs::create_dir_all(directory.join("archives/partial"))?;
    fs::write(directory.join("status"), "")?;
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--yes", "--quiet", "--download-only", "--no-install-recommends"]);
    for (option, path) in [("Dir::State::status", "status"), ("Dir::Cache::archives", "archives/")] {
        apt.arg("--option").arg(format!("{option}={}", directory.join(path).display()));
    }
    apt.args(["--option", "APT::Sandbox::User=root"]).args(names);
    if command::run(&mut apt).is_ok() {
        return Ok(());
    }
    // The package lists may be old, or not there at all.
    command::run(Command::new("apt-get").args(["update", "--quiet"])).context("apt-get needs the network and root")?;
    command::run(&mut apt).map(drop)
}

/// The packages of a layer's archive whose names `wanted` accepts, as `<name> <version>`.
pub(super) fn list(archive: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--to-stdout", "--occurrence", "--file"]).arg(archive).arg(format!("./{STATUS}"));
    let status = command::run(tar.stdin(Stdio::null()))?;
    Ok(versions(&status, wanted))
}

/// `<name> <version>` of the paragraphs of a dpkg status file whose names `wanted` accepts.
fn versions(status: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let field = |paragraph: &str, name: &str| {
        paragraph.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    let packages = status.split("\n\n").filter_map(|it| Some((field(it, "Package:")?, field(it, "Version:")?)));
    packages.filter(|(name, _)| wanted(name)).map(|(name, version)| format!("{name} {version}")).collect()
}

#[cfg(test)]
mod tests {
    use super::versions;

    #[test]
    fn packages_are_listed_by_name_and_version() {
        let status = "Package: redis-server\nDescription: not this\n Package: either\nVersion: 5:7.0\n\n\
                      Package: redis-tools\nVersion: 5:7.1\n\nPackage: half\n\n";
        assert_eq!(versions(status, |name| name == "redis-server"), ["redis-server 5:7.0"]);
        assert_eq!(versions(status, |_| true).len(), 2);
    }
}
