//! Compose files → [`EnvironmentSpec`]. People already have the file; this reads it, refuses what would
//! not mean what they think, and says so by line. Nothing is applied of a file with an error.

use std::path::{Path, PathBuf};

use crate::model::EnvironmentSpec;

mod diagnostic;

pub use diagnostic::{Diagnostic, ManifestError};

/// What to read, and as what.
pub struct Options<'a> {
    /// The compose file.
    pub file: PathBuf,
    /// The project; else the file's `name`, else its directory's name.
    pub project: Option<String>,
    /// The environment.
    pub environment: String,
    /// Variables of the caller, for `${…}` and for bare keys; they win over `.env` beside the file.
    pub variables: &'a dyn Fn(&str) -> Option<String>,
}

/// A file that can be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What it asks for.
    pub spec: EnvironmentSpec,
    /// Keys that have no effect here, for people.
    pub notes: Vec<Diagnostic>,
}

/// Reads a compose file.
///
/// # Errors
/// [`ManifestError`] when a file can't be read, or with everything that is wrong with it, one line each.
pub fn load(options: &Options<'_>) -> Result<Manifest, ManifestError> {
    let _: &Path = &options.file;
    unimplemented!()
}
