//! Running the firewall's own programs: their text is the one interface that both backends share.

use std::io;
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::EgressError;

/// What a program printed, or `None` when it is not installed or fails: for questions, whose answer
/// may be no.
pub(super) async fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().await.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program that must succeed, with `input` on its standard input.
pub(super) async fn run(program: &str, arguments: &[&str], input: &str) -> Result<(), EgressError> {
    succeed(program, arguments, input).await.map(drop)
}

/// What a program that must succeed printed.
pub(super) async fn output(program: &str, arguments: &[&str]) -> Result<String, EgressError> {
    succeed(program, arguments, "").await
}

async fn succeed(program: &str, arguments: &[&str], input: &str) -> Result<String, EgressError> {
    let missing = |source| EgressError::Missing { program: program.to_owned(), package: package(program), source };
    let output = feed(program, arguments, input).await.map_err(missing)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(EgressError::Failed {
        command: [&[program], arguments].concat().join(" "),
        stderr: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
    })
}

async fn feed(program: &str, arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read everything says why on its standard error.
        drop(stdin.write_all(input.as_bytes()).await);
    }
    child.wait_with_output().await
}

fn package(program: &str) -> &'static str {
    match program {
        "nft" => "nftables",
        "busctl" => "systemd",
        _ => "iptables",
    }
}
