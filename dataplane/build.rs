//! Builds what `skepd` carries: the eBPF object (`$OUT_DIR/skep`) and the sandboxes' only process (`$OUT_DIR/pause`).

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use aya_build::{Package, Toolchain};

/// The one toolchain of the workspace; its `channel` line is read below, so that it is written down once.
const RUST_TOOLCHAIN: &str = include_str!("../rust-toolchain.toml");

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../rust-toolchain.toml");
    match build_pause().and_then(|()| build_programs()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

/// A program without any library, so neither a C compiler nor a libc for the target is needed: the
/// toolchain's own linker does.
fn build_pause() -> Result<(), String> {
    const SOURCE: &str = "pause/pause.rs";
    println!("cargo::rerun-if-changed={SOURCE}");
    let variable = |name| env::var(name).map_err(|error| format!("{name}: {error}"));
    let out = Path::new(&variable("OUT_DIR")?).join("pause");
    let options = [
        "opt-level=s",
        "panic=abort",
        "strip=symbols",
        "relocation-model=static",
        "linker=rust-lld",
        "linker-flavor=ld.lld",
        // Nor what a target such as musl's brings along for a program with a libc.
        "link-self-contained=no",
    ];
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc.args(["--edition", "2024", "--target", &variable("TARGET")?]);
    rustc.args(options.iter().flat_map(|option| ["-C", option])).arg("-o").arg(out).arg(SOURCE);
    match rustc.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{SOURCE} does not compile ({status})")),
        Err(error) => Err(format!("cannot run rustc for {SOURCE}: {error}")),
    }
}

fn build_programs() -> Result<(), String> {
    let missing = |what| format!("{what} is missing, which the eBPF programs are built with: run `cargo xtask setup`");
    if !on_path("bpf-linker") {
        return Err(missing("bpf-linker"));
    }
    if !sysroot().is_some_and(|root| root.join("lib/rustlib/src/rust/library/core").is_dir()) {
        return Err(missing("the rust-src component"));
    }
    let channel = RUST_TOOLCHAIN
        .lines()
        .find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'))
        .ok_or("rust-toolchain.toml names no channel")?;
    let next = env::var_os("CARGO_FEATURE_NEXT_ABI").is_some();
    let programs = Package {
        name: "dataplane-ebpf",
        root_dir: "../dataplane-ebpf",
        no_default_features: true,
        features: if next { &["programs", "next-abi"] } else { &["programs"] },
    };
    // SAFETY: a build script is a process of its own, and this one has no other thread.
    unsafe {
        // `core` has to be built for the bpf target, which a stable compiler does only when told so; told here alone,
        // no other crate can use an unstable feature by accident.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // The third instruction set, which every kernel from 5.1 on has: it compares 32-bit values as such, and only so
        // does the verifier follow what the compiler knows about an offset. aya-build sets the flags of the whole
        // build; those of the profile come on top, for the programs but not for the macros that help to compile them.
        env::set_var("CARGO_UNSTABLE_PROFILE_RUSTFLAGS", "true");
        env::set_var("CARGO_PROFILE_RELEASE_RUSTFLAGS", "-Ctarget-cpu=v3");
        env::set_var("CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_RUSTFLAGS", "-Ctarget-cpu=generic");
        // However the daemon is built: unoptimised, they need more stack than there is.
        env::set_var("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3");
        // aya-build repeats what cargo says as warnings, and cargo repeats those with every build.
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    aya_build::build_ebpf([programs], Toolchain::Custom(channel)).map_err(|error| format!("{error:#}"))
}

fn on_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| is_file(&dir.join(program))))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file())
}

/// Where the compiler that runs this build keeps its libraries and sources.
fn sysroot() -> Option<PathBuf> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let out = Command::new(rustc).args(["--print", "sysroot"]).output().ok()?;
    Some(PathBuf::from(String::from_utf8(out.stdout).ok()?.trim_end()))
}
