//! `cargo xtask bench`: release builds, then `tests/benches/network.rs` as root.

use anyhow::{Context as _, Result};

use crate::{
    setup,
    shell::{as_root, cargo, pass},
    test::targets,
};

/// Options of `bench`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How often each subject has its turn.
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// How long a turn is.
    #[arg(long, default_value_t = 0.7)]
    seconds: f64,
    /// Only what has this in its CASE/SUBJECT, for instance `connect-close/skep`, to profile it.
    #[arg(long, default_value = "")]
    only: String,
    /// Do not ask before something is installed.
    #[arg(long)]
    yes: bool,
}

/// Set-up, build, measure.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run(&setup::Arguments { yes: arguments.yes, vm: false })?;
    pass(cargo().args(["build", "--release"]))?;
    let selection = ["--release", "--bench", "network"].map(str::to_owned);
    let built = targets::build(&selection)?;
    let bench = built.first().context("Cargo built no benchmark")?;
    let mut command = as_root(&bench.executable.to_string_lossy());
    command.args(["--rounds", &arguments.rounds.to_string(), "--seconds", &arguments.seconds.to_string()]);
    command.args(["--only", &arguments.only]);
    pass(command.current_dir(&bench.directory))
}
