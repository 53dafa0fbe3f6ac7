//! `cargo xtask`: everything a developer runs besides `cargo build`.

mod bench;
mod demo;
mod dist;
mod lint;
mod setup;
mod shell;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Set-up, tests and checks of Skep.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what building and testing need; quick when it is all there.
    Setup(setup::Arguments),
    /// Two projects, real PostgreSQL and Redis, isolation and a killed daemon, live on one screen.
    ///
    /// Brings a dockerd and a skepd of its own up in namespaces of its own, runs until Ctrl-C, and leaves nothing behind.
    Demo(demo::Arguments),
    /// Build and run the tests; `test vm` runs them on other kernels.
    Test(test::Arguments),
    /// Measure Skep beside a bare veth pair, Docker's bridge and Docker's resolver, in one run.
    Bench(bench::Arguments),
    /// Build a Debian package for each architecture, the same bytes every time.
    Dist(dist::Arguments),
    /// Check formatting and lints, for the host and for the kernel programs.
    Lint(lint::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Setup(arguments) => setup::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Dist(arguments) => dist::run(&arguments),
        Command::Lint(arguments) => lint::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Not `main() -> Result`, which adds a backtrace: what failed has said why by now.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
