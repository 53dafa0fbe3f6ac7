//! `cargo xtask dist`: a Debian package for each architecture, the same bytes wherever and whenever it is built.

mod build;
mod package;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use tests::command;

use self::build::Architecture;
use crate::shell::cargo;

/// Options of `dist`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only for these (`amd64`, `arm64`); may be given several times.
    #[arg(long = "arch", value_name = "NAME")]
    architectures: Vec<Architecture>,
    /// Build everything a second time, in another place, and fail unless the packages are the same.
    #[arg(long)]
    check: bool,
}

/// Builds and packs; prints each package with its SHA-256.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let all = [Architecture::Amd64, Architecture::Arm64];
    let chosen = if arguments.architectures.is_empty() { &all[..] } else { &arguments.architectures };
    let packages = tests::paths::target().join("dist");
    let built = packages_in(&packages, chosen)?;
    if arguments.check {
        let again = packages_in(&tests::paths::target().join("dist-again"), chosen)?;
        for (first, second) in built.iter().zip(&again) {
            ensure!(first.1 == second.1, "{} is another when it is built again, as {}", first.0, second.0);
        }
        eprintln!("Built twice, the same.");
    }
    for (path, sum) in built {
        println!("{sum}  {path}");
    }
    Ok(())
}

/// The package for this computer, as the source is now.
pub(crate) fn package_for_this_computer() -> Result<String> {
    let own = Architecture::of_this_computer()?;
    let packages = packages_in(&tests::paths::target().join("dist"), &[own])?;
    packages.into_iter().next().map(|(path, _)| path).context("no package was built")
}

/// The packages, and the digest of each.
fn packages_in(directory: &Path, architectures: &[Architecture]) -> Result<Vec<(String, String)>> {
    fs::create_dir_all(directory)?;
    let directory = directory.canonicalize()?;
    // The manual comes out of the programs themselves; those of another architecture do not run here.
    let own = Architecture::of_this_computer()?;
    let programs = build::programs(own, &directory)?;
    let mut packages = Vec::new();
    for architecture in architectures {
        let theirs = if *architecture == own { programs.clone() } else { build::programs(*architecture, &directory)? };
        let package = package::pack(*architecture, &programs, &theirs, &directory)?;
        let sum = command::run(Command::new("sha256sum").arg(&package))?;
        let sum = sum.split_whitespace().next().context("sha256sum says nothing")?;
        packages.push((package.display().to_string(), sum.to_owned()));
    }
    Ok(packages)
}

/// The version in `Cargo.toml`, with the commit when it is not a released one.
fn version() -> Result<String> {
    let metadata = command::run(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let version = packages.iter().find(|package| package["name"] == "dataplane");
    Ok(version.and_then(|package| package["version"].as_str()).context("dataplane has no version")?.to_owned())
}

/// Seconds since 1970 of the last commit: what the package has for a clock (`SOURCE_DATE_EPOCH`).
fn epoch() -> Result<String> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(given);
    }
    let mut git = Command::new("git");
    let time = command::run(git.args(["log", "-1", "--format=%ct"]).current_dir(tests::paths::workspace()));
    match time {
        Ok(time) if !time.is_empty() => Ok(time),
        _ => bail!("no Git history to tell the time from: set SOURCE_DATE_EPOCH"),
    }
}
