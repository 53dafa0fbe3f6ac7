//! Running other programs.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Uid;

/// A command that Cargo runs in the workspace, with the toolchain of `rust-toolchain.toml`.
///
/// The toolchain that built xtask stays in the environment otherwise, whatever the file says by now.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(tests::paths::workspace()).env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    command
}

/// The program as root: through `sudo` unless root already. `-E` keeps `PATH`-independent settings.
pub(crate) fn as_root(program: &str) -> Command {
    if Uid::effective().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-E", program]);
    command
}

/// The running command as root, when it is not; its build stays the user's own.
pub(crate) fn as_root_again() -> Result<Option<Command>> {
    if Uid::effective().is_root() {
        return Ok(None);
    }
    let mut command = as_root(&std::env::current_exe().context("where is the running program?")?.to_string_lossy());
    command.args(std::env::args_os().skip(1));
    Ok(Some(command))
}

/// Runs a command to its end with the terminal as its input and output; it must succeed.
pub(crate) fn pass(command: &mut Command) -> Result<()> {
    let line = tests::command::line(command);
    // Standard output is for results.
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(status.success(), "`{line}`: {status}");
    Ok(())
}

/// What a command says, or nothing if it fails or is not there.
pub(crate) fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
