//! `cargo xtask test`: builds everything, runs every test, counts.

mod run;
mod summary;
pub(crate) mod targets;
mod vm;

use std::{fs, io::ErrorKind, path::PathBuf};

use ::tests::faults::Heading;
use anyhow::{Context as _, Result, ensure};

use crate::{
    setup,
    shell::{cargo, pass},
};

/// Options of `test`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these: a crate's unit tests (`dataplane`), a file in a `tests` directory (`isolation`), `doc`;
    /// `vm`, which runs the kernel's part on other kernels; `reboot`, a whole machine whose power is cut; or
    /// `pair`, two of them with WireGuard between them.
    names: Vec<String>,
    /// Only tests whose name contains this.
    #[arg(long)]
    filter: Option<String>,
    /// As many repetitions as a release needs, not as many as a change does (`SKEP_LONG=1`); random faults go on for
    /// two hours then, or for `SKEP_SOAK_SECONDS`, and `reboot` and `pair` are run on more kernels.
    #[arg(long)]
    long: bool,
    /// With `vm`, `reboot` and `pair`: only Debian's newest kernel of this series (`6.1`); may be given several times.
    #[arg(long = "kernel", value_name = "SERIES")]
    kernels: Vec<String>,
    /// Do not ask before something is installed.
    #[arg(long)]
    yes: bool,
}

/// Set-up, build, tests, summary.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(guests) = arguments.names.iter().find(|name| ["vm", "reboot", "pair"].contains(&name.as_str())) {
        ensure!(arguments.names.len() == 1, "`{guests}` runs on machines of its own: no other names beside it");
        let (yes, kernels, long) = (arguments.yes, arguments.kernels.as_slice(), arguments.long);
        return match guests.as_str() {
            "vm" => vm::run(yes, kernels),
            "reboot" => vm::reboot::run(yes, kernels, long),
            _ => vm::pair::run(yes, kernels, long),
        };
    }
    ensure!(arguments.kernels.is_empty(), "--kernel goes with `vm`, `reboot` and `pair`: this computer has but one");
    setup::run(&setup::Arguments { yes: arguments.yes, vm: false })?;
    // The programs under test; then the tests, which drive them.
    pass(cargo().arg("build"))?;
    if arguments.names.is_empty() || arguments.names.iter().any(|name| name == "upgrade") {
        pass(cargo().args(["build", "--package", "dataplane", "--features", "next-abi", "--bin", "skepd-next"]))?;
    }
    let chosen = targets::choose(targets::build(&targets::selection(&arguments.names))?, &arguments.names)?;
    let list = faults()?;
    let mut summary = summary::Summary::default();
    for target in &chosen {
        summary.add(&target.name, run::target(target, arguments.filter.as_deref(), arguments.long, &list)?);
    }
    if arguments.names.is_empty() || arguments.names.iter().any(|name| name == targets::DOC) {
        summary.add(targets::DOC, run::documentation(arguments.filter.as_deref())?);
    }
    if let Ok(rows) = fs::read_to_string(&list) {
        println!("\n{Heading}\n{rows}");
    }
    println!("\n{summary}");
    ensure!(summary.passed(), "some tests failed");
    if arguments.long && arguments.names.is_empty() && arguments.filter.is_none() {
        vm::reboot::run(arguments.yes, &[], true)?;
        return vm::pair::run(arguments.yes, &[], true);
    }
    Ok(())
}

/// The file for the list of faults, not there yet.
fn faults() -> Result<PathBuf> {
    let target = ::tests::paths::target();
    fs::create_dir_all(&target)?;
    let list = target.canonicalize()?.join("faults.txt");
    match fs::remove_file(&list) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(|| list.display().to_string()),
        _ => Ok(list),
    }
}
