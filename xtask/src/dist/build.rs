use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use tests::command;

use super::epoch;
use crate::shell::{cargo, pass};

/// What a package is for, in Debian's words.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Architecture {
    /// x86-64.
    Amd64,
    /// aarch64.
    Arm64,
}

impl Architecture {
    pub(super) fn of_this_computer() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("no packages for {other}"),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// musl: one static file each, for every distribution and release, linked by what the toolchain itself brings.
    fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-musl",
            Self::Arm64 => "aarch64-unknown-linux-musl",
        }
    }
}

/// Builds `skepd` and `skepctl` for release below `directory`; gives the directory that they are in.
pub(super) fn programs(architecture: Architecture, directory: &Path) -> Result<PathBuf> {
    let target = architecture.target();
    add_target(target)?;
    let built = directory.join("build");
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--target", target, "--target-dir"]).arg(&built);
    build.env("CARGO_ENCODED_RUSTFLAGS", flags(&built)?.join("\x1f")).env("SOURCE_DATE_EPOCH", epoch()?);
    if architecture == Architecture::Arm64 {
        build.env(format!("CC_{}", target.replace('-', "_")), c_for_arm64()?);
    }
    pass(&mut build)?;
    Ok(built.join(target).join("release"))
}

/// What WireGuard's cipher (ring) has of C: musl-gcc compiles it for this computer, clang for any other, and for arm64
/// without anything of that one's own (ring's build.rs, `-nostdlibinc`).
fn c_for_arm64() -> Result<&'static str> {
    let version = Command::new("clang").arg("--version").output();
    ensure!(version.is_ok_and(|output| output.status.success()), "no C compiler for arm64: apt-get install clang");
    Ok("clang")
}

/// The linker that comes with Rust; no debugging information; no path of this computer.
fn flags(built: &Path) -> Result<Vec<String>> {
    let mut flags: Vec<String> =
        ["-Clinker=rust-lld", "-Clink-self-contained=yes", "-Cstrip=symbols"].map(str::to_owned).into();
    let workspace = tests::paths::workspace().canonicalize()?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).context("where is ~/.cargo?")?;
    // The last that fits counts: the build directory may lie in the workspace.
    for (path, name) in [(home.as_path(), "/cargo"), (&workspace, "/skep"), (built, "/build")] {
        flags.push(format!("--remap-path-prefix={}={name}", path.display()));
    }
    Ok(flags)
}

fn add_target(target: &str) -> Result<()> {
    let mut rustup = Command::new("rustup");
    rustup.current_dir(tests::paths::workspace()).env_remove("RUSTUP_TOOLCHAIN");
    let installed = command::run(rustup.args(["target", "list", "--installed"]))?;
    if installed.lines().any(|line| line == target) {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup.current_dir(tests::paths::workspace()).env_remove("RUSTUP_TOOLCHAIN");
    pass(rustup.args(["target", "add", target]))
}

/// Fails unless a program is a static one: what is linked to a library is a promise about another computer.
pub(super) fn must_be_static(program: &Path) -> Result<()> {
    let elf = fs::read(program)?;
    // e_phoff, e_phentsize, e_phnum of a 64-bit little-endian header; p_type of each entry.
    let at = |offset: usize, len: usize| -> Result<u64> {
        let bytes = elf.get(offset..offset + len).context("too short for an ELF file")?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let (table, size, count) = (at(0x20, 8)?, at(0x36, 2)?, at(0x38, 2)?);
    const INTERPRETER: u64 = 3;
    for entry in 0..count {
        let kind = at(usize::try_from(table + entry * size)?, 4)?;
        ensure!(kind != INTERPRETER, "{} needs a dynamic linker", program.display());
    }
    Ok(())
}
