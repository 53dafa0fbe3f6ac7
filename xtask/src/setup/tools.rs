//! The Rust toolchain and the linker of eBPF objects.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::shell::{answer, cargo, pass};

/// The newest that understands the LLVM of the pinned toolchain.
pub(super) const BPF_LINKER: &str = "0.10.0";

/// Components of the pinned toolchain that are not there: rustup does not always add them by itself.
pub(super) fn missing_components() -> Result<Vec<String>> {
    let mut rustc = rustc();
    let sysroot = tests::command::run(rustc.args(["--print", "sysroot"]))
        .context("rustup and Rust are needed first: https://rustup.rs")?;
    let lacks = |path: &str| !Path::new(&sysroot).join(path).exists();
    let components =
        [("rust-src", "lib/rustlib/src/rust/library"), ("clippy", "bin/cargo-clippy"), ("rustfmt", "bin/rustfmt")];
    Ok(components.iter().filter(|(_, path)| lacks(path)).map(|(name, _)| (*name).to_owned()).collect())
}

pub(super) fn add_components(names: &[String]) -> Result<()> {
    let mut rustup = std::process::Command::new("rustup");
    rustup.current_dir(tests::paths::workspace()).env_remove("RUSTUP_TOOLCHAIN");
    pass(rustup.args(["component", "add"]).args(names))
}

pub(super) fn bpf_linker_is_there() -> bool {
    answer("bpf-linker", &["--version"])
        .is_some_and(|version| version.split_whitespace().any(|word| word == BPF_LINKER))
}

pub(super) fn install_bpf_linker() -> Result<()> {
    pass(cargo().args(["install", "--locked", "--force", "bpf-linker", "--version", BPF_LINKER]))
}

/// `rustc` of the pinned toolchain.
fn rustc() -> std::process::Command {
    let mut command = std::process::Command::new("rustc");
    command.current_dir(tests::paths::workspace()).env_remove("RUSTUP_TOOLCHAIN");
    command
}
