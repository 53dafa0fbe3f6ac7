//! `skepd`, the node daemon of Skep.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{CommandFactory as _, Parser as _};
use dataplane::agent::in_one_line;
use dataplane::backup::{self, Passphrase, Summary};
use dataplane::cluster::{self, Token};
use dataplane::config::{Args, ClusterCommand, Command, Config, Options};
use dataplane::host::Level;
use dataplane::install::{self, InstallError, Step, Upgrade, Wanted};
use dataplane::{daemon, forwarder, logging, memory, repair, supervisor, uninstall, wireguard};

pub(crate) fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("skepd: {}", in_one_line(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<ExitCode> {
    memory::keep_one_heap();
    let args = Args::parse();
    match args.command {
        Some(Command::Install { dry_run, keep_enablement, destdir }) => {
            return match destdir {
                Some(directory) => Ok(install::place_below(&directory)?),
                None => install(&args.options, dry_run, Wanted { keep_enablement }),
            }
            .map(|()| ExitCode::SUCCESS);
        }
        Some(Command::Upgrade { dry_run }) => return upgrade(&args.options, dry_run).map(|()| ExitCode::SUCCESS),
        Some(Command::Documents) => {
            println!("{}", serde_json::to_string_pretty(&install::documents::of(Args::command(), 8)?)?);
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let config = args.options.resolve()?;
    logging::init(&config)?;
    if matches!(args.command, Some(Command::Dns | Command::Tunnel)) {
        supervisor::take_precedence();
    }
    // Has no use for the runtime, whose threads would keep what it gives up.
    if args.command == Some(Command::Tunnel) {
        match wireguard::run(&config)? {}
    }
    // Two threads serve everything that a node has to do; more would only cost memory.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    runtime.block_on(async {
        match args.command.unwrap_or(Command::Run) {
            Command::Run => daemon::run(config).await?,
            Command::Check => return Ok(check(&config).await),
            Command::Backup { file, secret } => {
                let passphrase = Passphrase::find(secret.passphrase_file.as_deref(), true)?;
                tell(&backup::backup(&config, &file, &passphrase).await?);
            }
            Command::Restore { file, secret, replace } => {
                let passphrase = Passphrase::find(secret.passphrase_file.as_deref(), false)?;
                tell(&backup::restore(&config, &file, &passphrase, replace).await?);
            }
            Command::Cluster { command: ClusterCommand::Init { etcd_program } } => {
                cluster::init(&config, &etcd_program).await?;
            }
            Command::Join { token } => cluster::join(&config, &read_token(token)?).await?,
            Command::Repair { forget, dry_run } => {
                let report = repair::repair(&config, forget, dry_run).await?;
                report.iter().for_each(|line| println!("{line}"));
                if report.is_empty() {
                    println!("the store is sound, and knows everything that runs here");
                }
            }
            Command::Dns => forwarder::run(forwarder::Config::from(&config)).await?,
            Command::Uninstall { yes, purge } => return remove(config, yes, purge).await,
            Command::Tunnel | Command::Install { .. } | Command::Upgrade { .. } | Command::Documents => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// A token as it was given, or from standard input.
fn read_token(given: String) -> Result<Token> {
    let mut text = given;
    if text == "-" {
        text.clear();
        std::io::stdin().lock().read_line(&mut text).context("cannot read the token")?;
    }
    Ok(text.parse()?)
}

/// What a backup holds, in a line.
fn tell(summary: &Summary) {
    let Summary { node, taken, revision, environments, kept } = summary;
    println!(
        "{environments} environment(s) of node {node} at revision {revision}, taken at {taken} (seconds since 1970)"
    );
    if let Some(kept) = kept {
        println!("the store before is kept as {}", kept.display());
    }
}

fn install(options: &Options, dry_run: bool, wanted: Wanted) -> Result<()> {
    takes_no(options)?;
    let steps = install::missing(wanted)?;
    if may_do(&steps, dry_run)? { Ok(install::run(&steps)?) } else { Ok(()) }
}

fn upgrade(options: &Options, dry_run: bool) -> Result<()> {
    takes_no(options)?;
    let upgrade = Upgrade::to_this()?;
    if may_do(upgrade.steps(), dry_run)? {
        upgrade.run()?;
        println!("skepd {} is up.", env!("CARGO_PKG_VERSION"));
    }
    Ok(())
}

/// Of the options of this command, the units would know nothing.
fn takes_no(options: &Options) -> Result<()> {
    if *options == Args::try_parse_from(["skepd"])?.options { Ok(()) } else { Err(InstallError::Options.into()) }
}

/// Whether there is anything to be done, and it is to be done now.
fn may_do(steps: &[Step], dry_run: bool) -> Result<bool> {
    if steps.is_empty() {
        println!("Everything is there.");
    } else if dry_run {
        steps.iter().for_each(|step| println!("{step}"));
    } else if !nix::unistd::geteuid().is_root() {
        return Err(InstallError::NotRoot.into());
    }
    Ok(!steps.is_empty() && !dry_run)
}

async fn check(config: &Config) -> ExitCode {
    let findings = daemon::all_findings(config).await;
    for finding in &findings {
        let level = format!("{:?}", finding.level).to_lowercase();
        println!("{level:<6} {}", finding.what);
        if let Some(remedy) = &finding.remedy {
            println!("       → {remedy}");
        }
    }
    if findings.iter().any(|finding| finding.level == Level::Error) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn remove(config: Config, yes: bool, purge: bool) -> Result<ExitCode> {
    let containers = uninstall::containers(&config).await?;
    if !yes {
        if !std::io::stdin().is_terminal() {
            bail!("nobody can be asked: give --yes to remove {} containers and all of Skep", containers.len());
        }
        if cluster::keeps_etcd(&config) {
            println!(
                "The cluster's etcd is on this machine. Without it the other nodes go on, and take no change any more."
            );
        }
        print!("Remove {} containers and everything else of Skep from this machine? [y/N] ", containers.len());
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !answer.trim().eq_ignore_ascii_case("y") {
            bail!("nothing was removed");
        }
    }
    match uninstall::run(config, purge).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(errors) => {
            errors.iter().for_each(|error| eprintln!("skepd: {}", in_one_line(error)));
            Ok(ExitCode::FAILURE)
        }
    }
}
