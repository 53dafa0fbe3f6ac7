//! What is said about a line of a file.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::sources::FileId;

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Which.
    pub(super) file: FileId,
    /// From 1.
    pub(super) line: usize,
    /// From 1, in characters.
    pub(super) column: usize,
}

impl Place {
    /// Where the first file begins.
    pub(super) const START: Self = Self { file: FileId::FIRST, line: 1, column: 1 };
}

/// One remark about one place, in one line: `file:line:column: key: what; remedy`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// As given by the user.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Path of the key, as `services.api.ports`; empty for the file as a whole.
    pub key: String,
    /// What is wrong, or has no effect.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// In the order of the files. What is at one place in the file and in several of what it makes, as an anchor's is, is said
/// once.
pub(super) fn settle(mut all: Vec<Diagnostic>) -> Vec<Diagnostic> {
    all.sort();
    all.dedup();
    let mut said: BTreeMap<_, usize> = BTreeMap::new();
    let mut settled: Vec<(Diagnostic, usize)> = Vec::new();
    for one in all {
        let about = (one.file.clone(), one.line, one.column, one.what.clone(), one.remedy.clone());
        match said.get(&about).and_then(|index| settled.get_mut(*index)) {
            Some((_, more)) => *more += 1,
            None => {
                said.insert(about, settled.len());
                settled.push((one, 0));
            }
        }
    }
    let counted = settled.into_iter().map(|(mut one, more)| {
        if more > 0 {
            one.key.push_str(&format!(" (and {more} more)"));
        }
        one
    });
    counted.collect()
}

/// A file that can't be applied.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It could not be read.
    #[error("{}: cannot be read ({source}); give the compose file with -f", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Everything that is wrong with it, in the order of the file; never empty.
    #[error("{}", lines(.0))]
    Refused(Vec<Diagnostic>),
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}
