//! The files that a project is read from: which one a place is in, where its paths start and what variables it knows.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::diagnostic::Place;
use super::dotenv::{self, DotenvError};

/// Largest file that is read.
const SIZE_MAX: u64 = 4 << 20;

/// The variable that names the project, and that is set to its name wherever it comes from.
pub(super) const PROJECT: &str = "COMPOSE_PROJECT_NAME";
/// The variable with the profiles of a project, a comma between two.
pub(super) const PROFILES: &str = "COMPOSE_PROFILES";

/// What a variable is worth to whoever started the command.
pub(super) type Callers<'a> = &'a dyn Fn(&str) -> Option<String>;

/// All files so far.
pub(super) struct Sources<'a> {
    callers: Callers<'a>,
    /// What [`PROJECT`] is worth, once it is known.
    pub(super) project: Option<String>,
    files: Vec<File>,
    scopes: Vec<Scope>,
}

/// A file, as its path was given.
struct File {
    path: PathBuf,
    scope: ScopeId,
}

/// What several files have in common.
struct Scope {
    directory: PathBuf,
    variables: BTreeMap<String, String>,
}

/// A file among [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(usize);

impl FileId {
    /// The one that was named first.
    pub(super) const FIRST: Self = Self(0);
}

/// A scope among [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ScopeId(usize);

/// Why a file of variables says nothing.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It can't be read.
    Io(io::Error),
    /// A line of it can't.
    Line(DotenvError),
}

impl<'a> Sources<'a> {
    pub(super) fn new(callers: Callers<'a>) -> Self {
        Self { callers, project: None, files: Vec::new(), scopes: Vec::new() }
    }

    /// One more scope, whose paths start from `directory`. Variables of `within` come before its own.
    pub(super) fn scope(
        &mut self,
        directory: PathBuf,
        mut variables: BTreeMap<String, String>,
        within: Option<ScopeId>,
    ) -> ScopeId {
        let outer = within.and_then(|within| self.scopes.get(within.0));
        variables.extend(outer.into_iter().flat_map(|outer| outer.variables.clone()));
        self.scopes.push(Scope { directory, variables });
        ScopeId(self.scopes.len() - 1)
    }

    /// One more file, and its text.
    ///
    /// # Errors
    /// The kernel's, or that it is too large.
    pub(super) fn open(&mut self, path: &Path, scope: ScopeId) -> io::Result<(FileId, String)> {
        let text = read(path)?;
        self.files.push(File { path: path.to_owned(), scope });
        Ok((FileId(self.files.len() - 1), text))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.files.len()
    }

    /// A file, as its path was given.
    pub(super) fn path(&self, file: FileId) -> &Path {
        self.files.get(file.0).map_or(Path::new(""), |file| &file.path)
    }

    /// The scope of a file.
    pub(super) fn scope_of(&self, file: FileId) -> ScopeId {
        self.files.get(file.0).map_or(ScopeId(0), |file| file.scope)
    }

    /// Where paths that are said at a place start from.
    pub(super) fn directory(&self, at: Place) -> &Path {
        self.scopes.get(self.scope_of(at.file).0).map_or(Path::new(""), |scope| &scope.directory)
    }

    /// What a variable is worth at a place: to the caller, else by the files of variables there.
    pub(super) fn lookup(&self, at: Place, name: &str) -> Option<String> {
        if let Some(project) = self.project.as_ref().filter(|_| name == PROJECT) {
            return Some(project.clone());
        }
        let scope = || self.scopes.get(self.scope_of(at.file).0);
        (self.callers)(name).or_else(|| scope()?.variables.get(name).cloned())
    }

    /// The variables of a file of them, with what is known within a scope.
    ///
    /// # Errors
    /// It can't be read, or not understood.
    pub(super) fn variables(
        &self,
        path: &Path,
        within: Option<ScopeId>,
    ) -> Result<BTreeMap<String, String>, Unreadable> {
        let text = read(path).map_err(Unreadable::Io)?;
        let outer = within.and_then(|within| self.scopes.get(within.0));
        let known = |name: &str| (self.callers)(name).or_else(|| outer?.variables.get(name).cloned());
        let parsed = dotenv::parse(&text, false, &known).map_err(Unreadable::Line)?;
        Ok(parsed.into_iter().collect())
    }
}

/// A file's text.
///
/// # Errors
/// The kernel's, or that it is too large, whatever it is.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(SIZE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > SIZE_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {SIZE_MAX} bytes")));
    }
    Ok(text)
}

/// The directory that a file is in.
pub(super) fn directory_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}
