//! `include`: other projects' files, each with the directory and the variables that it has by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::diagnostic::Place;
use super::super::keys::INCLUDE;
use super::super::sources::{ScopeId, Unreadable, directory_of};
use super::super::yaml::{Node, Value};
use super::{Assembly, TRAIL_MAX, identity, merge};

/// What is not taken of an included project.
const OWN: [&str; 2] = ["name", "version"];

/// One entry.
#[derive(Default)]
struct Entry {
    /// Its files, the first one first.
    paths: Vec<(Place, String)>,
    directory: Option<String>,
    env_files: Option<Vec<(Place, String)>>,
}

impl Assembly<'_, '_> {
    /// A file over all that it includes.
    pub(super) fn including(&mut self, mut root: Node) -> Node {
        let Some(include) = root.take("include") else { return root };
        for item in self.reader.list(&include, "include", false).to_vec() {
            let entry = self.entry(&item);
            if let Some(included) = self.included(item.at, &entry) {
                root = merge::merged(self.reader, included, root, &mut Vec::new());
            }
        }
        root
    }

    fn entry(&mut self, item: &Node) -> Entry {
        let mut entry = Entry::default();
        if !matches!(item.value, Value::Map(_)) {
            entry.paths = self.texts(item, "include");
            return entry;
        }
        for field in self.reader.fields(item, "include", &INCLUDE) {
            match field.key {
                "path" => entry.paths = self.texts(field.node, &field.path),
                "project_directory" => entry.directory = self.reader.optional(field.node, &field.path),
                _ => entry.env_files = Some(self.texts(field.node, &field.path)),
            }
        }
        if entry.paths.is_empty() {
            self.reader.error(item.at, "include", "no path is given", "add path: with a compose file");
        }
        entry
    }

    fn texts(&mut self, node: &Node, path: &str) -> Vec<(Place, String)> {
        let items = self.reader.list(node, path, true).to_vec();
        items.iter().filter_map(|item| Some((item.at, self.reader.text(item, path)?))).collect()
    }

    /// What is taken of the project that an entry at a place names.
    fn included(&mut self, at: Place, entry: &Entry) -> Option<Node> {
        let near = self.reader.sources.directory(at).to_owned();
        let files: Vec<(Place, PathBuf)> = entry.paths.iter().map(|(at, path)| (*at, near.join(path))).collect();
        let (_, main) = files.first()?;
        if let Some(begin) = self.trail.iter().position(|file| *file == identity(main)) {
            let way: Vec<String> = self.trail.iter().skip(begin).map(|file| file.display().to_string()).collect();
            let what = format!("{} includes itself: {}", main.display(), way.join(" includes "));
            self.reader.error(at, "include", what, "take one of them out");
            return None;
        }
        if self.trail.len() > TRAIL_MAX {
            let what = format!("more than {TRAIL_MAX} files include each other");
            self.reader.error(at, "include", what, "include the last ones directly");
            return None;
        }
        let directory = entry.directory.as_ref().map_or_else(|| directory_of(main), |said| near.join(said));
        let scope = self.scope(at, entry, &near, directory)?;
        let mut whole = None;
        self.trail.push(identity(main));
        for (at, path) in &files {
            let root = self.open(*at, "include", path, scope).and_then(|(file, text)| self.file(file, &text));
            whole = self.over(whole, root);
        }
        self.trail.pop();
        let mut whole = whole?;
        // What it resets is reset in it; what is included has nothing below.
        whole.settle();
        if let Value::Map(entries) = &mut whole.value {
            entries.retain(|(key, _)| !OWN.contains(&key.text.as_str()) && !key.text.starts_with("x-"));
        }
        Some(whole)
    }

    /// Its variables: of the files that are named, else of `.env` in its directory; those around it come first.
    fn scope(&mut self, at: Place, entry: &Entry, near: &Path, directory: PathBuf) -> Option<ScopeId> {
        let within = Some(self.reader.sources.scope_of(at.file));
        let dot_env = directory.join(".env");
        let files: Vec<(Place, PathBuf)> = match &entry.env_files {
            Some(files) => files.iter().map(|(at, file)| (*at, near.join(file))).collect(),
            None if dot_env.is_file() => vec![(at, dot_env)],
            None => Vec::new(),
        };
        let mut variables = BTreeMap::new();
        for (at, file) in files {
            let what = match self.reader.sources.variables(&file, within) {
                Ok(more) => {
                    variables.extend(more);
                    continue;
                }
                Err(Unreadable::Io(error)) => format!("{} can't be read ({error})", file.display()),
                Err(Unreadable::Line(error)) => format!("{}, line {}: {}", file.display(), error.line, error.what),
            };
            self.reader.error(at, "include", what, "mend the file, or the path");
            return None;
        }
        Some(self.reader.sources.scope(directory, variables, within))
    }
}
