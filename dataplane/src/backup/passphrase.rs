//! Where the passphrase comes from: a file, the environment, or the person at the terminal. Never the command line, which
//! every process may read.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use crate::terminal;

/// The variable that may hold it.
const VARIABLE: &str = "SKEP_PASSPHRASE";

/// What a backup is encrypted with.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(String);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

#[cfg(test)]
impl From<&str> for Passphrase {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// Nobody gave one.
    #[error("no passphrase, and nobody can be asked: --passphrase-file FILE, or {VARIABLE} in the environment")]
    None,
    /// It is empty.
    #[error("the passphrase is empty: give one of some words")]
    Empty,
    /// Typed twice, differently.
    #[error("the two passphrases differ: try again")]
    Differ,
    /// The file.
    #[error("cannot read the passphrase from {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The terminal.
    #[error("cannot ask for the passphrase: {0}: --passphrase-file FILE instead")]
    Terminal(#[from] io::Error),
}

impl Passphrase {
    /// The first line of `file`, or the environment's, or what a person types, `twice` if a mistake would be noticed too
    /// late.
    ///
    /// # Errors
    /// [`PassphraseError`].
    pub fn find(file: Option<&Path>, twice: bool) -> Result<Self, PassphraseError> {
        let text = match file {
            Some(path) => {
                let failed = |source| PassphraseError::File { path: path.to_owned(), source };
                std::fs::read_to_string(path).map_err(failed)?.lines().next().unwrap_or_default().to_owned()
            }
            None => match std::env::var(VARIABLE) {
                Ok(text) => text,
                Err(_) if io::stdin().is_terminal() => asked(twice)?,
                Err(_) => return Err(PassphraseError::None),
            },
        };
        if text.is_empty() { Err(PassphraseError::Empty) } else { Ok(Self(text)) }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn asked(twice: bool) -> Result<String, PassphraseError> {
    let first = terminal::hidden("Passphrase: ")?;
    if twice && terminal::hidden("Again: ")? != first {
        return Err(PassphraseError::Differ);
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_first_line_and_an_empty_one_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        std::fs::write(&path, "correct horse\nnot this\n").unwrap();
        assert_eq!(Passphrase::find(Some(&path), true).unwrap(), Passphrase::from("correct horse"));
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(Passphrase::find(Some(&path), true), Err(PassphraseError::Empty)));
        let gone = Passphrase::find(Some(Path::new("/nowhere/passphrase")), true).unwrap_err();
        assert!(gone.to_string().contains("/nowhere/passphrase"));
        assert!(!format!("{:?}", Passphrase::from("secret")).contains("secret"));
    }
}
