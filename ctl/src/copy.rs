//! Files out of replicas and into them, as `docker cp` does: what is copied onto a directory that is there comes into it.

mod archive;

use std::io;
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;

use dataplane::api::channels::{self, Channel, PROTOCOL};
use dataplane::api::types::PathRow;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};

use crate::cli::{CopyArgs, Global, Meant, Place};
use crate::client::Client;
use crate::error::CtlError;
use crate::scope;

/// Pieces that wait for whoever is slower.
const AHEAD: usize = 4;
/// The end of a path that means what is in a directory, not the directory.
const CONTENTS: &str = "/.";

/// `cp`.
pub(crate) async fn run(global: &Global, args: &CopyArgs) -> Result<ExitCode, CtlError> {
    match (&args.from, &args.to) {
        (Place::There(meant, path), to @ (Place::Here(_) | Place::Pipe)) => out(global, meant, path, to).await?,
        (from @ (Place::Here(_) | Place::Pipe), Place::There(meant, path)) => into(global, from, meant, path).await?,
        _ => return Err(CtlError::Copy),
    }
    Ok(ExitCode::SUCCESS)
}

async fn out(global: &Global, meant: &Meant, path: &str, to: &Place) -> Result<(), CtlError> {
    let from = scope::inside(global, meant, "archive", Some(("path", path.to_owned())))?;
    let mut body = Client::new(global).octets(&from).await?;
    let (pieces, reader) = archive::pipe(AHEAD);
    let to = match to {
        Place::Here(to) => Some(to.clone()),
        _ => None,
    };
    let writing = spawn_blocking(move || match to {
        Some(to) => archive::unpack(reader, &to),
        None => Ok(io::copy(&mut { reader }, &mut io::stdout()).map(|_| ())?),
    });
    let mut broken = None;
    loop {
        let piece = match body.next().await {
            Ok(Some(piece)) => Ok(piece.to_vec()),
            Ok(None) => break,
            Err(error) => {
                broken = Some(error);
                // What has come is not all of it: nothing is put in its place.
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        };
        if pieces.send(piece).await.is_err() || broken.is_some() {
            break;
        }
    }
    drop(pieces);
    let written = finished(writing.await);
    broken.map_or(written, Err)
}

async fn into(global: &Global, from: &Place, meant: &Meant, path: &str) -> Result<(), CtlError> {
    let client = Client::new(global);
    let there: PathRow = client.get(&scope::inside(global, meant, "path", Some(("path", path.to_owned())))?).await?;
    let (directory, name) = target(from, path, there)?;
    let to = scope::inside(global, meant, "archive", Some(("path", directory)))?;
    let connection = client.upgrade(&to, None::<&()>, PROTOCOL).await?;
    let (mut answer, mut to) = tokio::io::split(connection);
    let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(AHEAD);
    let from = match from {
        Place::Here(from) => Some(from.clone()),
        _ => None,
    };
    let reading = spawn_blocking(move || {
        let mut to = archive::Pieces(sender);
        match from {
            Some(from) => archive::pack(&from, &name, &mut to),
            None => Ok(io::copy(&mut io::stdin().lock(), &mut to).map(|_| ())?),
        }
    });
    // A connection that takes no more is no error of this end: the other one says why.
    let sending = async {
        while let Some(piece) = pieces.recv().await {
            if channels::write(&mut to, Channel::Stdin, &piece).await.is_err() {
                return Ok(());
            }
        }
        let read = finished(reading.await);
        // Without an end it is none: the engine is told that it broke off.
        let _told = match &read {
            Ok(()) => channels::write(&mut to, Channel::Close, b"").await,
            Err(_) => to.shutdown().await,
        };
        read
    };
    let hearing = async {
        let mut why = String::new();
        while let Some((channel, piece)) = channels::read(&mut answer).await? {
            match channel {
                Channel::Stderr => why.push_str(&String::from_utf8_lossy(&piece)),
                Channel::Status if piece == b"0" => return Ok(()),
                Channel::Status => return Err(CtlError::Refused { why }),
                Channel::Stdin | Channel::Stdout | Channel::Resize | Channel::Close => {}
            }
        }
        Err(CtlError::Cut)
    };
    let (mut sending, mut hearing) = (pin!(sending), pin!(hearing));
    tokio::select! {
        heard = &mut hearing => heard,
        sent = &mut sending => match sent {
            Ok(()) => hearing.await,
            refused => refused,
        },
    }
}

/// The directory to write into, and what is written is called there; nothing: what is in it goes there.
fn target(from: &Place, path: &str, there: PathRow) -> Result<(String, String), CtlError> {
    let (from, contents) = match from {
        Place::Here(from) => (from, from.to_string_lossy().ends_with(CONTENTS)),
        _ if there.directory => return Ok((path.to_owned(), String::new())),
        _ => return Err(CtlError::NoDirectory { path: path.to_owned() }),
    };
    if there.directory {
        let own =
            std::path::absolute(from).ok().and_then(|from| Some(from.file_name()?.to_string_lossy().into_owned()));
        let own = own.ok_or_else(|| CtlError::Unnamed { path: from.clone() })?;
        return Ok((path.to_owned(), if contents { String::new() } else { own }));
    }
    if path.ends_with('/') || there.exists && from.is_dir() {
        return Err(CtlError::NoDirectory { path: path.to_owned() });
    }
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    Ok((format!("{directory}/"), name.to_owned()))
}

fn finished(ended: Result<Result<(), CtlError>, JoinError>) -> Result<(), CtlError> {
    match ended {
        Ok(ended) => ended,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// For errors about a file of this computer.
fn about(path: &Path) -> impl Fn(io::Error) -> CtlError + use<> {
    let path = path.to_owned();
    move |source| CtlError::File { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn what_is_copied_onto_a_directory_comes_into_it() {
        let here = |path: &str| Place::Here(PathBuf::from(path));
        let (file, directory) = (PathRow { exists: true, directory: false }, PathRow { exists: true, directory: true });
        let nothing = PathRow { exists: false, directory: false };
        let written = |from: &str, path: &str, there| target(&here(from), path, there).ok();
        let at = |directory: &str, name: &str| Some((directory.to_owned(), name.to_owned()));
        assert_eq!(written("a.txt", "/etc", directory), at("/etc", "a.txt"));
        assert_eq!(written("a.txt", "/etc/b.txt", nothing), at("/etc/", "b.txt"));
        assert_eq!(written("a.txt", "/b.txt", file), at("/", "b.txt"));
        assert_eq!(written("/usr/.", "/etc", directory), at("/etc", ""));
        assert_eq!(written("/usr/.", "/etc/new", nothing), at("/etc/", "new"));
        assert_eq!(written("a.txt", "/etc/new/", nothing), None);
        assert_eq!(written("/usr", "/etc/motd", file), None);
        assert_eq!(target(&Place::Pipe, "/etc", directory).ok(), at("/etc", ""));
        assert!(target(&Place::Pipe, "/etc/new", nothing).is_err());
    }
}
