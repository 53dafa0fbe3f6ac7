//! What belongs to Docker and is not installed: a newer engine, Compose; from Debian's next release, unpacked only.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{apt::Apt, command, paths};

/// The release it is of; containerd and runc stay those of this computer.
const SUITE: &str = "trixie";

/// A newer `dockerd`: the program that `SKEP_NEWER_DOCKERD` names, or Debian's, downloaded once and kept under
/// `target/`.
///
/// # Errors
/// It cannot be downloaded.
pub fn newer_dockerd() -> Result<PathBuf> {
    if let Some(path) = env::var_os("SKEP_NEWER_DOCKERD") {
        return Ok(path.into());
    }
    unpacked("docker.io", "usr/sbin/dockerd").context("a newer Docker Engine, for the test of an upgrade")
}

/// `docker-compose` of Compose's second generation: the program that `SKEP_DOCKER_COMPOSE` names, or Debian's, kept as
/// the engine is.
///
/// # Errors
/// It cannot be downloaded.
pub fn compose() -> Result<PathBuf> {
    if let Some(path) = env::var_os("SKEP_DOCKER_COMPOSE") {
        return Ok(path.into());
    }
    unpacked("docker-compose", "usr/libexec/docker/cli-plugins/docker-compose").context("Compose, to compare with")
}

/// `etcd`: the program that `SKEP_ETCD_PROGRAM` names, or Debian's, kept as the engine is.
///
/// # Errors
/// It cannot be downloaded.
pub fn etcd() -> Result<PathBuf> {
    if let Some(path) = env::var_os("SKEP_ETCD_PROGRAM") {
        return Ok(path.into());
    }
    unpacked("etcd-server", "usr/bin/etcd").context("etcd, as a store")
}

/// A program of a package, which is downloaded unless it was before.
fn unpacked(package: &str, program: &str) -> Result<PathBuf> {
    let kept = paths::target().join("engines").join(SUITE).join(package);
    let program = kept.join(program);
    if !program.exists() {
        fs::create_dir_all(kept.parent().unwrap_or(&kept))?;
        let work = tempfile::tempdir_in(kept.parent().unwrap_or(&kept))?;
        unpack(work.path(), package)?;
        // Two tests may do it at once; either's is as good.
        if fs::rename(work.path().join("root"), &kept).is_err() && !program.exists() {
            fs::rename(work.path().join("root"), &kept).with_context(|| kept.display().to_string())?;
        }
    }
    Ok(program)
}

fn unpack(directory: &Path, package: &str) -> Result<()> {
    Apt::new()?.download(&[format!("{package}/{SUITE}")], directory)?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            command::run(Command::new("dpkg-deb").arg("--extract").arg(path).arg(directory.join("root")))?;
        }
    }
    Ok(())
}
