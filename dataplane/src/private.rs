//! Files that hold keys, and are their owner's alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// No key is longer (octets).
const LONGEST: u64 = 64 * 1024;

/// Why such a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// It cannot be read.
    #[error("cannot {operation} {}: {source}: run skepd as root, or give another --state-dir", path.display())]
    File {
        /// What failed.
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read it.
    #[error("{} may be read by others (its mode is {mode:04o}): chmod 600 {}, and if they have read it, {exposed}",
        path.display(), path.display())]
    Mode {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// What is to be done if they have.
        exposed: &'static str,
    },
    /// It is somebody else's.
    #[error("{} is of user {found}, skepd runs as {own}: chown {own} {}", path.display(), path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        found: u32,
        /// Whose it should be.
        own: u32,
    },
}

/// What is in a file, if there is one: not through a link, which somebody else may have put there. `exposed` says what is to
/// be done if others have read it.
///
/// # Errors
/// [`PrivateFileError`].
pub(crate) fn read(path: &Path, exposed: &'static str) -> Result<Option<Zeroizing<Vec<u8>>>, PrivateFileError> {
    // Nor is a pipe waited for.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => content(opened.map_err(failed("read", path))?, path, exposed).map(Some),
    }
}

/// What is in a file that an administrator named, which may be a link.
///
/// # Errors
/// [`PrivateFileError`]; it has to be there.
pub(crate) fn named(path: &Path, exposed: &'static str) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    content(File::open(path).map_err(failed("read", path))?, path, exposed)
}

fn content(file: File, path: &Path, exposed: &'static str) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    let about = file.metadata().map_err(failed("read", path))?;
    let (mode, own) = (about.mode() & 0o7777, nix::unistd::geteuid().as_raw());
    if about.uid() != own {
        return Err(PrivateFileError::Owner { path: path.to_owned(), found: about.uid(), own });
    }
    if mode & 0o077 != 0 {
        return Err(PrivateFileError::Mode { path: path.to_owned(), mode, exposed });
    }
    // At once as long as it gets: what grows leaves copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(about.len().min(LONGEST)).unwrap_or(0) + 1));
    file.take(LONGEST).read_to_end(&mut content).map_err(failed("read", path))?;
    Ok(content)
}

pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrivateFileError {
    let path = path.to_owned();
    move |source| PrivateFileError::File { operation, path, source }
}
