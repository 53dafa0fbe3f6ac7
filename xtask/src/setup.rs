//! `cargo xtask setup`: what building and testing need.

mod packages;
mod tools;

use std::{
    fmt,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
};

use anyhow::{Result, bail};

/// Options of `setup`.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Also what `cargo xtask test vm` needs.
    #[arg(long)]
    pub(crate) vm: bool,
}

/// Something that lacks, and will be installed.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Step {
    /// Packages of the distribution.
    Packages(Vec<String>),
    /// Components of the pinned Rust toolchain.
    Components(Vec<String>),
    /// The linker of eBPF objects.
    BpfLinker,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packages(names) => write!(f, "packages (apt-get install): {}", names.join(" ")),
            Self::Components(names) => {
                write!(f, "parts of the Rust toolchain (rustup component add): {}", names.join(" "))
            }
            Self::BpfLinker => write!(f, "bpf-linker {} (cargo install, about a minute)", tools::BPF_LINKER),
        }
    }
}

/// Says what lacks, asks once, installs it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let steps = plan(arguments)?;
    if steps.is_empty() {
        eprintln!("Everything is there.");
        return Ok(());
    }
    eprintln!("To be installed:");
    for step in &steps {
        eprintln!("  {step}");
    }
    if !arguments.yes && io::stdin().is_terminal() && !agreed()? {
        bail!("nothing was installed");
    }
    steps.iter().try_for_each(apply)
}

/// What lacks.
fn plan(arguments: &Arguments) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let packages = packages::missing(arguments.vm)?;
    if !packages.is_empty() {
        steps.push(Step::Packages(packages));
    }
    let components = tools::missing_components()?;
    if !components.is_empty() {
        steps.push(Step::Components(components));
    }
    if !tools::bpf_linker_is_there() {
        steps.push(Step::BpfLinker);
    }
    Ok(steps)
}

fn apply(step: &Step) -> Result<()> {
    match step {
        Step::Packages(names) => packages::install(names),
        Step::Components(names) => tools::add_components(names),
        Step::BpfLinker => tools::install_bpf_linker(),
    }
}

/// Asks whether to go on; yes is the default.
fn agreed() -> Result<bool> {
    print!("Go on? [Y/n] ");
    io::stdout().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}
