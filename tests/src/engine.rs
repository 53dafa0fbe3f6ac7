//! Another Docker Engine than the installed one: the one of Debian's next release, unpacked and not installed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{command, paths};

/// Where a newer engine is to be found; containerd and runc stay those of this computer.
const SUITE: &str = "trixie";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Debian's mirror, unless `SKEP_DEBIAN_MIRROR` names another.
const MIRROR: &str = "http://deb.debian.org/debian";

/// A newer `dockerd`: the program that `SKEP_NEWER_DOCKERD` names, or Debian's, downloaded once and kept under
/// `target/`.
///
/// # Errors
/// It cannot be downloaded.
pub fn newer_dockerd() -> Result<PathBuf> {
    if let Some(path) = env::var_os("SKEP_NEWER_DOCKERD") {
        return Ok(path.into());
    }
    let kept = paths::target().join("engines").join(SUITE);
    let program = kept.join("usr/sbin/dockerd");
    if !program.exists() {
        fs::create_dir_all(kept.parent().unwrap_or(&kept))?;
        let work = tempfile::tempdir_in(kept.parent().unwrap_or(&kept))?;
        unpack(work.path()).context("a newer Docker Engine, for the test of an upgrade")?;
        // Two tests may do it at once; either's is as good.
        if fs::rename(work.path().join("root"), &kept).is_err() && !program.exists() {
            fs::rename(work.path().join("root"), &kept).with_context(|| kept.display().to_string())?;
        }
    }
    Ok(program)
}

/// Downloads by an APT of our own; this computer's is not touched.
fn unpack(directory: &Path) -> Result<()> {
    for part in ["lists/partial", "archives/partial", "preferences.d"] {
        fs::create_dir_all(directory.join(part))?;
    }
    let mirror = env::var("SKEP_DEBIAN_MIRROR").unwrap_or_else(|_| MIRROR.to_owned());
    fs::write(directory.join("status"), "")?;
    fs::write(directory.join("sources.list"), format!("deb [signed-by={KEYRING}] {mirror} {SUITE} main\n"))?;
    command::run(apt(directory).args(["update", "--quiet"]))?;
    command::run(apt(directory).args(["download", "--quiet", "docker.io"]))?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            command::run(Command::new("dpkg-deb").arg("--extract").arg(path).arg(directory.join("root")))?;
        }
    }
    Ok(())
}

fn apt(directory: &Path) -> Command {
    let path = |name: &str| directory.join(name).display().to_string();
    let mut apt = Command::new("apt-get");
    for option in [
        format!("Dir::State::lists={}", path("lists")),
        format!("Dir::State::status={}", path("status")),
        format!("Dir::Etc::sourcelist={}", path("sources.list")),
        format!("Dir::Etc::preferencesparts={}", path("preferences.d")),
        format!("Dir::Cache={}", path("")),
        "Dir::Etc::sourceparts=/dev/null".to_owned(),
        "Dir::Etc::preferences=/dev/null".to_owned(),
        "APT::Sandbox::User=root".to_owned(),
        "Acquire::Languages=none".to_owned(),
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
    ] {
        apt.args(["--option", &option]);
    }
    apt.current_dir(directory);
    apt
}
