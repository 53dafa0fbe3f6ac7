//! Running one test program and counting.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use ::tests::faults::LIST;
use anyhow::{Context as _, Result};

use super::targets::Target;
use crate::shell::{as_root, cargo};

/// Several nodes wait for leases and for each other most of the time: a processor has time for two such tests.
const LEISURELY: &str = "cluster";
/// How many tests of a program run at once, for libtest; a person's own number stands.
const THREADS: &str = "RUST_TEST_THREADS";

/// What became of the tests of one program.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    pub(super) passed: u32,
    pub(super) failed: u32,
    pub(super) ignored: u32,
    pub(super) took: Duration,
    /// It ended as it should: a crash has no counts.
    pub(super) success: bool,
}

/// Runs a test program, as root if it needs that.
///
/// One at a time: they share a kernel, and the time that one takes is measured by another.
pub(super) fn target(target: &Target, filter: Option<&str>, long: bool, list: &Path) -> Result<Outcome> {
    println!("\n── {} ──", target.name);
    let executable = target.executable.to_string_lossy();
    let mut command = if target.root { as_root(&executable) } else { Command::new(&target.executable) };
    command.current_dir(&target.directory).args(filter).env(LIST, list);
    if long {
        command.env("SKEP_LONG", "1");
    }
    if target.name == LEISURELY && std::env::var_os(THREADS).is_none() {
        let cores = std::thread::available_parallelism()?;
        command.env(THREADS, (2 * cores.get()).to_string());
    }
    counted(&mut command)
}

/// Runs the examples in the documentation.
pub(super) fn documentation(filter: Option<&str>) -> Result<Outcome> {
    println!("\n── doc ──");
    counted(
        cargo()
            .args(["test", "--workspace", "--doc", "--quiet"])
            .args(filter.map(|filter| ["--", filter]).into_iter().flatten()),
    )
}

/// Runs tests, shows what they say and adds up their `test result:` lines.
fn counted(command: &mut Command) -> Result<Outcome> {
    let start = Instant::now();
    let line = ::tests::command::line(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{line}`"))?;
    let mut outcome = Outcome::default();
    for line in BufReader::new(child.stdout.take().context("piped")?).split(b'\n') {
        let line = line?;
        let text = String::from_utf8_lossy(&line);
        println!("{text}");
        outcome.count(&text);
    }
    std::io::stdout().flush()?;
    outcome.success = child.wait()?.success();
    outcome.took = start.elapsed();
    Ok(outcome)
}

impl Outcome {
    /// Adds the counts of a line such as `test result: ok. 5 passed; 0 failed; 1 ignored; …`.
    pub(super) fn count(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result:").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for part in counts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else { continue };
            let number = number.parse::<u32>().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn counts_are_added_up() {
        let mut outcome = Outcome::default();
        outcome.count("running 3 tests");
        outcome.count("test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 2.47s");
        outcome
            .count("test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s");
        assert_eq!((outcome.passed, outcome.failed, outcome.ignored), (7, 3, 1));
    }
}
