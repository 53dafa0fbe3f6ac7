//! `cargo xtask lint`: formatting and lints, every warning an error.

use anyhow::Result;

use crate::shell::{cargo, pass};

/// Options of `lint`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Mend what can be mended: formatting, and clippy's own suggestions.
    #[arg(long)]
    fix: bool,
}

/// Formatting, then the host's code, then the kernel's.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let fix: &[&str] = if arguments.fix { &["--fix", "--allow-dirty", "--allow-staged"] } else { &[] };
    pass(cargo().args(["fmt", "--all"]).args(if arguments.fix { None } else { Some("--check") }))?;
    pass(cargo().args(["clippy", "--workspace", "--all-targets"]).args(fix).args(["--", "--deny=warnings"]))?;
    pass(
        cargo()
            .args(["clippy", "--package", "dataplane-ebpf", "--features", "next-abi", "--lib"])
            .args(fix)
            .args(["--", "--deny=warnings"]),
    )?;
    pass(
        cargo()
            .args(["clippy", "--package", "dataplane-ebpf", "--features", "programs", "--bin", "skep"])
            .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"])
            .args(fix)
            .args(["--", "--deny=warnings"])
            // The pinned toolchain is a stable one; only it has an LLVM that bpf-linker understands.
            .env("RUSTC_BOOTSTRAP", "1"),
    )
}
