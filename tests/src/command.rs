//! Running a command so that its failure explains itself.

use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};

/// Runs the command to its end and gives its standard output, right-trimmed.
///
/// # Errors
/// The command could not be started, or failed: the message has its line, status and output.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        bail!("{}", describe(command, &output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Runs the command to its end, whatever its exit status.
///
/// # Errors
/// The command could not be started.
pub fn output(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("cannot start `{}`", line(command)))
}

/// The command line, as a person would type it.
#[must_use]
pub fn line(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// What became of a command: its line, its status, what it said.
#[must_use]
pub fn describe(command: &Command, output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    format!("`{}`: {}\n{}{}", line(command), output.status, stdout.trim_start(), stderr)
}
