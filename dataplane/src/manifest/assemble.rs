//! The files of a project → one tree: what `include` names, what `extends` names, and further files, which change what
//! earlier ones say. Compose Specification, 13-merge and 14-include; in the order in which Compose does it.

mod extends;
mod include;
mod merge;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::diagnostic::{Diagnostic, ManifestError, Place};
use super::reader::Reader;
use super::sources::{FileId, ScopeId, Sources, Unreadable, directory_of};
use super::yaml::{self, Node, SIZE_MAX, Value};

/// Most files that one project is read from.
const FILES_MAX: usize = 256;
/// Longest way from a file to one that it includes, or from a service to one that it extends.
const TRAIL_MAX: usize = 16;

/// Reads files that were named by the user. [`None`]: why they can't be put together has been said.
///
/// # Errors
/// One of them, or `.env`, can't be read.
pub(super) fn project(reader: &mut Reader<'_>, files: &[PathBuf]) -> Result<Option<Node>, ManifestError> {
    let directory = files.first().map(|first| directory_of(first)).unwrap_or_default();
    let variables = dot_env(&reader.sources, &directory)?;
    let scope = reader.sources.scope(directory, variables, None);
    let mut assembly = Assembly { reader, left: SIZE_MAX, trail: Vec::new(), others: BTreeMap::new(), ill: 0 };
    let mut whole = None;
    for path in files {
        let failed = |source| ManifestError::Read { path: path.clone(), source };
        let (file, text) = assembly.reader.sources.open(path, scope).map_err(failed)?;
        assembly.trail.push(identity(path));
        let root = assembly.file(file, &text);
        assembly.trail.pop();
        whole = assembly.over(whole, root);
    }
    // What is not whole would be found to lack what it was to get.
    if assembly.reader.errors.len() > assembly.ill {
        return Ok(None);
    }
    if let Some(root) = &mut whole {
        root.settle();
    }
    Ok(whole)
}

/// The variables of `.env` in a directory; none without it.
///
/// # Errors
/// It can't be read.
pub(super) fn dot_env(sources: &Sources<'_>, directory: &Path) -> Result<BTreeMap<String, String>, ManifestError> {
    let file = directory.join(".env");
    if !file.is_file() {
        return Ok(BTreeMap::new());
    }
    sources.variables(&file, None).map_err(|error| unreadable(file, error))
}

fn unreadable(path: PathBuf, error: Unreadable) -> ManifestError {
    match error {
        Unreadable::Io(source) => ManifestError::Read { path, source },
        Unreadable::Line(error) => {
            let (line, key, remedy) = (error.line, String::new(), error.remedy.to_owned());
            let diagnostic = Diagnostic { file: path, line, column: 1, key, what: error.what, remedy };
            ManifestError::Refused(vec![diagnostic])
        }
    }
}

/// One file has one, whatever path leads to it.
fn identity(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// What is being put together.
struct Assembly<'r, 'a> {
    reader: &'r mut Reader<'a>,
    /// So many more nodes may come together.
    left: usize,
    /// Files that are being read, each included by the one before.
    trail: Vec<PathBuf>,
    /// Files whose services are extended, as they stand.
    others: BTreeMap<(PathBuf, ScopeId), Option<Rc<Node>>>,
    /// Errors within single files, which can be put together all the same.
    ill: usize,
}

impl Assembly<'_, '_> {
    /// A file with what it includes and extends.
    fn file(&mut self, file: FileId, text: &str) -> Option<Node> {
        let root = self.parsed(file, text)?;
        let root = self.including(root);
        Some(self.extending(root, file))
    }

    /// A file as it stands.
    fn parsed(&mut self, file: FileId, text: &str) -> Option<Node> {
        let (root, errors) = yaml::parse(file, text);
        self.ill += errors.len();
        for error in errors {
            self.reader.error(error.at, "", error.what, error.remedy);
        }
        let root = root?;
        self.spend(root.at, &root)?;
        Some(root)
    }

    /// One more file over all before it.
    fn over(&mut self, whole: Option<Node>, root: Option<Node>) -> Option<Node> {
        match (whole, root) {
            (Some(whole), Some(root)) => Some(merge::merged(self.reader, whole, root, &mut Vec::new())),
            (whole, root) => root.or(whole),
        }
    }

    /// Counts what is put in; [`None`]: it is too much, which has been said.
    fn spend(&mut self, at: Place, node: &Node) -> Option<()> {
        let left = self.left.checked_sub(node.size());
        if left.is_none() && self.left > 0 {
            let what = format!("more than {SIZE_MAX} values with all that is included and extended");
            self.reader.error(at, "", what, "include or extend less");
        }
        self.left = left.unwrap_or(0);
        left.map(drop)
    }

    /// Opens a file that another one names at a place; what is wrong with it is said there.
    fn open(&mut self, at: Place, path: &str, name: &Path, scope: ScopeId) -> Option<(FileId, String)> {
        if self.reader.sources.count() >= FILES_MAX {
            self.reader.error(at, path, format!("more than {FILES_MAX} files"), "include or extend fewer");
            return None;
        }
        let opened = self.reader.sources.open(name, scope);
        let failed = opened.map_err(|error| format!("{} can't be read ({error})", name.display()));
        failed.map_err(|what| self.reader.error(at, path, what, "mend the path")).ok()
    }
}

/// The list that a key says, be it one of one. [`None`]: it is neither.
fn listed(node: &Node) -> Option<&[Node]> {
    match &node.value {
        Value::Null => Some(&[]),
        Value::Scalar(_) => Some(std::slice::from_ref(node)),
        Value::List(items) => Some(items),
        Value::Map(_) => None,
    }
}
