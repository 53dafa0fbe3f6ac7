//! `cargo xtask demo`: two projects on one machine, live on one screen, and nothing left behind.

mod images;
mod names;
mod reach;
mod screen;
mod stage;
mod survival;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use images::{Provided, Source};
use nix::sys::signal::{SigSet, Signal};
use screen::Screen;
use serde::Serialize;
use stage::Stage;
use tests::images::Registry;

use crate::setup;
use crate::shell::{as_root_again, cargo, pass};

/// Options of `demo`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Unattended: run once, end, and exit non-zero when anything differs from what is expected.
    #[arg(long)]
    check: bool,
    /// Where PostgreSQL and Redis are pulled from, `HOST[:PORT][/PREFIX]`; `none` builds them from packages,
    /// as a registry that does not answer does.
    #[arg(long, value_name = "REGISTRY", default_value = Registry::DOCKER_HUB)]
    registry: Source,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// Do not ask before something is installed.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For scripts: one object on standard output, progress on standard error.
    Json,
}

/// Everything the demo found out.
#[derive(Debug, Default, Serialize)]
struct Report {
    images: Vec<Provided>,
    names: Vec<names::Answer>,
    reach: Vec<reach::Cell>,
    dns: Vec<names::Latency>,
    survival: Vec<survival::Load>,
    /// What is still there after everything was taken down.
    left_behind: Vec<String>,
    as_expected: bool,
}

impl Report {
    fn differences(&self) -> usize {
        self.images.iter().filter(|image| !image.as_expected()).count()
            + self.names.iter().filter(|answer| !answer.as_expected()).count()
            + self.reach.iter().filter(|cell| !cell.as_expected()).count()
            + self.survival.iter().filter(|load| !load.as_expected()).count()
            + self.left_behind.len()
    }
}

/// Set-up, build, then the demo as root.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run(&setup::Arguments { yes: arguments.yes, vm: false })?;
    pass(cargo().arg("build"))?;
    if let Some(mut again) = as_root_again()? {
        return pass(&mut again);
    }
    let mut screen = Screen::new(arguments.output == Output::Table);
    let before = stage::traces()?;
    let mut report = play(arguments, &mut screen)?;
    let after = stage::traces()?;
    report.left_behind = after.into_iter().filter(|trace| !before.contains(trace)).collect();
    report.as_expected = report.differences() == 0;
    conclude(arguments, &report, &mut screen)
}

/// Everything between setting the stage and taking it down.
fn play(arguments: &Arguments, screen: &mut Screen) -> Result<Report> {
    let stage = Stage::set(&arguments.registry, screen)?;
    let report = Report {
        images: stage.images.clone(),
        names: names::ask(&stage, screen)?,
        reach: reach::probe(&stage, screen)?,
        dns: names::latency(&stage, screen)?,
        survival: survival::watch(&stage, screen)?,
        ..Report::default()
    };
    if !arguments.check && arguments.output == Output::Table {
        linger(&stage, screen)?;
    }
    screen.status("taking everything down …");
    Ok(report)
}

fn conclude(arguments: &Arguments, report: &Report, screen: &mut Screen) -> Result<()> {
    if arguments.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(report)?);
    }
    for trace in &report.left_behind {
        screen.line(format!("left behind: {trace}"));
    }
    screen.status(if report.as_expected { "everything as expected, nothing left behind" } else { "NOT as expected" });
    screen.end();
    ensure!(report.as_expected, "{} results differ from what is expected", report.differences());
    Ok(())
}

/// Shows what to try next, until Ctrl-C.
fn linger(stage: &Stage, screen: &mut Screen) -> Result<()> {
    let skepctl = stage.skepctl_script()?;
    screen.section("try it from another terminal");
    for command in [
        "ps",
        "names",
        "drops",
        "-p shop why web postgres:5432",
        "-p shop why web blog/production/postgres:5432",
        "map list",
        "-p shop -e staging down",
    ] {
        screen.line(format!("{} {command}", skepctl.display()));
    }
    screen.status("running; Ctrl-C takes everything down");
    // Until here an interrupt ends this process, and the machine's own watchdog cleans up.
    let mut interrupts = SigSet::empty();
    interrupts.add(Signal::SIGINT);
    interrupts.add(Signal::SIGTERM);
    interrupts.thread_block()?;
    interrupts.wait()?;
    Ok(())
}
