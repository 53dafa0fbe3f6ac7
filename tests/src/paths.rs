//! Where the built programs and the caches are.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

/// The workspace: the directory of the root `Cargo.toml`.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The `target` directory, where caches go: images, kernels, reports.
#[must_use]
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// A program of this workspace (`skepd`, `skepctl`), as last built.
///
/// It is looked for in `SKEP_BIN_DIR`, then beside the running program, where Cargo puts both.
///
/// # Errors
/// The program is not there; the message says how to build it.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = match env::var_os("SKEP_BIN_DIR") {
        Some(directory) => PathBuf::from(directory).join(name),
        None => profile_directory()?.join(name),
    };
    ensure!(path.is_file(), "{} is not there: run `cargo build` (or `cargo xtask setup` first)", path.display());
    Ok(path)
}

/// `target/<profile>` of the running program; tests run from its `deps`.
fn profile_directory() -> Result<PathBuf> {
    let exe = env::current_exe().context("where is the running program?")?;
    let directory = exe.parent().context("the running program has no directory")?;
    let in_deps = directory.ends_with("deps") || directory.ends_with("examples");
    Ok(if in_deps { directory.parent().unwrap_or(directory) } else { directory }.to_path_buf())
}
