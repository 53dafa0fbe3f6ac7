use std::io::{self, IsTerminal as _, Read as _};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use dataplane::api::channels::{self, Channel, PROTOCOL};
use dataplane::api::types::{Command, Size};
use dataplane::model::name::normalise;
use dataplane::terminal::{self, Raw};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::{CommandArgs, ExecArgs, Global, Meant, RunArgs};
use crate::client::Client;
use crate::error::CtlError;
use crate::output::Output;
use crate::scope;

/// Octets that are read at once, and so often ahead.
const TYPED_MAX: usize = 16 << 10;
const AHEAD: usize = 4;

/// A container may have to be made, and its image pulled: this long, nobody wonders.
const SOON: Duration = Duration::from_secs(1);

/// `exec`.
pub(crate) async fn run(global: &Global, args: &ExecArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    converse(global, &scope::inside(global, &args.service, "exec", None)?, &args.command, output).await
}

/// `run`.
pub(crate) async fn one_off(global: &Global, args: &RunArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    let service = Meant { service: normalise(&args.service)?, replica: None };
    converse(global, &scope::inside(global, &service, "run", None)?, &args.command, output).await
}

async fn converse(global: &Global, path: &str, args: &CommandArgs, output: &mut Output) -> Result<ExitCode, CtlError> {
    let has_terminal = io::stdin().is_terminal() && output.is_terminal() && !args.no_tty;
    let size = has_terminal.then(terminal::size).flatten();
    let command = Command {
        command: args.command.clone(),
        user: args.user.clone(),
        directory: args.workdir.clone(),
        environment: args.env.clone(),
        terminal: has_terminal.then_some(size.unwrap_or(Size { rows: 24, columns: 80 })),
    };
    let client = Client::new(global);
    let mut connecting = pin!(client.upgrade(path, Some(&command), PROTOCOL));
    let connection = match tokio::time::timeout(SOON, &mut connecting).await {
        Ok(connection) => connection?,
        Err(_) => {
            output.note("waiting for its container …");
            connecting.await?
        }
    };
    let raw = if has_terminal { Some(Raw::enter()?) } else { None };
    let (mut from, to) = tokio::io::split(connection);
    let typing = tokio::spawn(type_into(to, has_terminal));
    let mut status = None;
    while let Some((channel, piece)) = channels::read(&mut from).await? {
        match channel {
            Channel::Stdout => show(&mut io::stdout(), &piece)?,
            Channel::Stderr => show(&mut io::stderr(), &piece)?,
            Channel::Status => status = String::from_utf8_lossy(&piece).parse::<i64>().ok(),
            Channel::Stdin | Channel::Resize | Channel::Close => {}
        }
    }
    typing.abort();
    drop(raw);
    let status = status.ok_or(CtlError::Cut)?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)))
}

fn show(to: &mut impl io::Write, piece: &[u8]) -> io::Result<()> {
    to.write_all(piece)?;
    to.flush()
}

/// Sends what is typed, and how large the terminal is whenever that changes.
async fn type_into(mut to: impl AsyncWrite + Unpin, has_terminal: bool) -> io::Result<()> {
    let mut typed = typed();
    let mut resized = signal(SignalKind::window_change())?;
    loop {
        tokio::select! {
            piece = typed.recv() => match piece {
                Some(piece) => channels::write(&mut to, Channel::Stdin, &piece).await?,
                None => break,
            },
            Some(()) = resized.recv(), if has_terminal => {
                if let Some(size) = terminal::size() {
                    let size = serde_json::to_vec(&size)?;
                    channels::write(&mut to, Channel::Resize, &size).await?;
                }
            }
        }
    }
    channels::write(&mut to, Channel::Close, b"").await?;
    // The other half stays open: what the command says comes through it.
    to.flush().await
}

/// Standard input, read by a thread that nobody waits for: a read of a terminal ends with the next key.
fn typed() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        let mut block = vec![0; TYPED_MAX];
        while let Ok(count @ 1..) = io::stdin().lock().read(&mut block) {
            if sender.blocking_send(block[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}
