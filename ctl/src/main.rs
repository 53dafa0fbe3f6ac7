//! `skepctl`, the command line of Skep.

mod cell;
mod check;
mod cli;
mod client;
mod copy;
mod deployment;
mod directory;
mod drops;
mod endpoint;
mod environment;
mod error;
mod event;
mod exec;
mod forward;
mod log;
mod map;
mod monitor;
mod name;
mod node;
mod output;
mod pins;
mod progress;
mod prune;
mod registry;
mod replica;
mod run;
mod scope;
mod secret;
mod service;
mod typed;
mod why;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::cli::{Cli, Command};
use self::error::CtlError;
use self::output::Output;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut output = Output::new(&cli.global);
    match run(cli, &mut output).await.and_then(|code| output.flush().map(|()| code)) {
        Ok(code) => code,
        // The reader has what it wanted (`skepctl ps | head -1`).
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            error.exit_code()
        }
    }
}

async fn run(cli: Cli, output: &mut Output) -> Result<ExitCode, CtlError> {
    let global = &cli.global;
    match cli.command {
        Command::Up(args) => environment::up(global, &args, output).await,
        Command::Config(args) => environment::config(global, &args, output),
        Command::Down(args) => environment::down(global, &args, output).await,
        Command::Prune(args) => prune::prune(global, &args, output).await,
        Command::Deploy(args) => deployment::deploy(global, &args, output).await,
        Command::Rollback(args) => deployment::rollback(global, &args, output).await,
        Command::Scale(args) => deployment::scale(global, &args, output).await,
        Command::Stop(args) => deployment::all(global, &args.services, "stop", &args.wait, output).await,
        Command::Start(args) => deployment::all(global, &args.services, "start", &args.wait, output).await,
        Command::Restart(args) => deployment::all(global, &args.services, "restart", &args.wait, output).await,
        Command::Rm(args) => deployment::all(global, &args.services, "remove", &args.wait, output).await,
        Command::Deployments => deployment::list(global, output).await,
        Command::History(args) => deployment::history(global, &args, output).await,
        Command::Runs(args) => run::list(global, &args, output).await,
        Command::Events(args) => event::show(global, &args, output).await,
        Command::Logs(args) => log::show(global, &args, output).await,
        Command::Exec(args) => exec::run(global, &args, output).await,
        Command::Run(args) => exec::one_off(global, &args, output).await,
        Command::Cp(args) => copy::run(global, &args).await,
        Command::Forward(args) => forward::run(global, &args, output).await,
        Command::Registry(args) => registry::run(global, &args.command, output).await,
        Command::Secrets(args) => secret::run(global, &args.command, output).await,
        Command::Nodes(args) => node::run(global, &args, output).await,
        Command::Ps => replica::list(global, output).await,
        Command::Inspect { service } => service::inspect(global, &service, output).await,
        Command::Services => service::list(global, output).await,
        Command::Endpoints => endpoint::list(global, output).await,
        Command::Names => name::list(global, output).await,
        Command::Drops(args) => drops::list(global, &args, output).await,
        Command::Monitor(args) => monitor::follow(global, &args, output).await,
        Command::Why(args) => why::explain(global, &args, output).await,
        Command::Map(args) => map::run(global, &args, output).await,
        Command::Check => check::run(global, output).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "skepctl", output);
            Ok(ExitCode::SUCCESS)
        }
        Command::Documents => {
            output.json(&dataplane::install::documents::of(Cli::command(), 1)?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
