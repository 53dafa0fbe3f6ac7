//! `configs` and `secrets`, and what a service mounts from beside the compose file: all of them become files that its
//! containers have from the start. Nothing of a node is mounted.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::diagnostic::Place;
use super::keys::{CONFIG, FILE, SECRET, Section};
use super::mounts;
use super::reader::{Field, Reader, join};
use super::yaml::{Node, Value};
use crate::model::ServiceSpec;
use crate::model::file::{Content, FILE_MAX, FILES_MAX, File, MODE};

/// Most files of one directory that is taken along.
const TREE_MAX: usize = 200;

/// One of the two kinds of files that a compose file declares.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Config,
    Secret,
}

impl Kind {
    /// The key at the top, and of a service.
    fn key(self) -> &'static str {
        match self {
            Self::Config => "configs",
            Self::Secret => "secrets",
        }
    }

    fn section(self) -> &'static Section {
        match self {
            Self::Config => &CONFIG,
            Self::Secret => &SECRET,
        }
    }

    /// Where a file is that says no path, or only a name.
    fn target(self, name: &str) -> String {
        match self {
            _ if name.starts_with('/') => name.to_owned(),
            Self::Config => format!("/{name}"),
            Self::Secret => format!("/run/secrets/{name}"),
        }
    }
}

/// A service's files of one kind, by their paths; their contents are named after what declares them.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, path: &str, kind: Kind, files: &mut BTreeMap<String, File>) {
    for item in reader.list(node, path, false) {
        let read = match item.value {
            Value::Map(_) => long_form(reader, item, path, kind),
            _ => reader.text(item, path).map(|name| (kind.target(&name), File::of(join(kind.key(), &name)))),
        };
        let Some((target, file)) = read else { continue };
        put(reader, item.at, path, files, target, file);
    }
}

fn long_form(reader: &mut Reader<'_>, node: &Node, path: &str, kind: Kind) -> Option<(String, File)> {
    let (mut source, mut target) = (None, None);
    let mut file = File::of(String::new());
    for field in reader.fields(node, path, &FILE) {
        let Field { node, path, .. } = &field;
        match field.key {
            "source" => source = reader.optional(node, path),
            "target" => target = reader.optional(node, path),
            "mode" => file.mode = mode(reader, node, path),
            "uid" => file.uid = reader.number(node, path).unwrap_or(0),
            _ => file.gid = reader.number(node, path).unwrap_or(0),
        }
    }
    let Some(source) = source else {
        reader.error(node.at, path, "it has no source", format!("add source: with one of {}", kind.key()));
        return None;
    };
    file.content = join(kind.key(), &source);
    Some((kind.target(target.as_deref().unwrap_or(&source)), file))
}

fn mode(reader: &mut Reader<'_>, node: &Node, path: &str) -> u32 {
    let Some(text) = reader.optional(node, path) else { return MODE };
    u32::from_str_radix(text.trim_start_matches("0o"), 8).unwrap_or_else(|_| {
        reader.error(node.at, path, format!("{text:?} is no mode"), "write it in octal, as 0440");
        MODE
    })
}

/// One more file, unless another one is there.
fn put(reader: &mut Reader<'_>, at: Place, path: &str, files: &mut BTreeMap<String, File>, target: String, file: File) {
    if files.contains_key(&target) {
        return reader.error(at, path, format!("{target} is there twice"), "keep one of them");
    }
    files.insert(target, file);
}

/// What services take of the two sections at the top is read; what nobody takes need not be there.
pub(super) fn settle(reader: &mut Reader<'_>, declared: &[(Kind, &Node)], services: &BTreeMap<String, ServiceSpec>) {
    let mut read: BTreeMap<String, Option<Content>> = BTreeMap::new();
    for (kind, node) in declared {
        for (key, node) in reader.entries(node, kind.key()) {
            let name = join(kind.key(), &key.text);
            let is_used = services.values().any(|service| service.files.values().any(|file| file.content == name));
            let content = if is_used { declaration(reader, node, &name, *kind) } else { None };
            read.insert(name, content);
        }
    }
    for (service, spec) in services {
        for name in spec.files.values().map(|file| &file.content) {
            if let Some((kind, source)) = name.split_once('.').filter(|_| !name.starts_with('/'))
                && !read.contains_key(name)
            {
                let path = format!("services.{service}.{kind}");
                let at = reader.places.get(&path).copied().unwrap_or(Place::START);
                let remedy = format!("declare it at the top: {kind}: {{ {source}: {{ file: ./{source} }} }}");
                reader.error(at, &path, format!("there is no {source} among {kind}"), remedy);
            }
        }
    }
    reader.contents.extend(read.into_iter().filter_map(|(name, content)| Some((name, content?))));
    let total: usize = reader.contents.values().map(|content| content.expose().len()).sum();
    if total > FILES_MAX {
        let what = format!("all files of the environment are {total} octets, {FILES_MAX} are the most");
        reader.error(Place::START, "services", what, "put large ones into an image, or a named volume");
    }
}

/// Where a content comes from: exactly one place.
fn declaration(reader: &mut Reader<'_>, node: &Node, path: &str, kind: Kind) -> Option<Content> {
    let mut found = Vec::new();
    for field in reader.fields(node, path, kind.section()) {
        let Field { node, path, at, .. } = &field;
        let Some(text) = reader.given(node, path) else { continue };
        let content = match field.key {
            "content" => Some(Content::new(text)),
            "environment" => {
                let value = reader.sources.lookup(*at, &text).map(Content::new);
                if value.is_none() {
                    reader.error(*at, path, format!("the variable {text} is not set"), "set it, or name a file:");
                }
                value
            }
            _ => {
                let file = resolve(reader, *at, &text);
                content_of(reader, *at, path, &file)
            }
        };
        found.push(content);
    }
    if found.len() != 1 {
        let ways = if kind == Kind::Config { "file:, environment: or content:" } else { "file: or environment:" };
        let what = if found.is_empty() { "it says nothing of what it holds" } else { "it says twice what it holds" };
        reader.error(node.at, path, what, format!("write one of {ways}"));
    }
    found.pop().flatten()
}

/// A file or a directory of this computer that a service mounts: it is taken along, as it is now.
pub(super) fn mounted(
    reader: &mut Reader<'_>,
    (at, path): (Place, &str),
    (source, target): (&str, &str),
    read_only: bool,
    files: &mut BTreeMap<String, File>,
) {
    let here = resolve(reader, at, source);
    let metadata = match fs::metadata(&here) {
        Ok(metadata) => metadata,
        Err(error) => {
            let what = match error.kind() {
                io::ErrorKind::NotFound => format!("there is no {} to take along", here.display()),
                _ => format!("{} can't be mounted ({error})", here.display()),
            };
            let remedy = format!("{}; for a file, mend the path", mounts::keep(source, target));
            return reader.error(at, path, what, remedy);
        }
    };
    let mut found = Vec::new();
    if metadata.is_file() {
        found.push((target.to_owned(), here, metadata));
    } else if !metadata.is_dir() {
        let what = format!("{source} of the host is neither a file nor a directory");
        return reader.error(at, path, what, "remove it: nothing of a node is mounted");
    } else if !read_only {
        let what = format!("{source} is a directory of the host, and services run on any node");
        let keep = mounts::keep(source, target);
        let remedy = format!("for files that are only read, write {source}:{target}:ro; {keep}");
        return reader.error(at, path, what, remedy);
    } else if let Err(error) = tree(&here, target.trim_end_matches('/'), &mut found) {
        let remedy = "name the files that are needed, or put them into the image or a named volume";
        return reader.error(at, path, format!("{source} can't be taken along: {error}"), remedy);
    }
    let mut taken = 0;
    for (target, source, metadata) in found {
        let Some(content) = content_of(reader, at, path, &source) else { return };
        let name = source.display().to_string();
        let (mode, uid, gid) = (metadata.mode() & 0o777, metadata.uid(), metadata.gid());
        put(reader, at, path, files, target, File { content: name.clone(), mode, uid, gid });
        reader.contents.insert(name, content);
        taken += 1;
    }
    let files = if taken == 1 { "a file".to_owned() } else { format!("{taken} files") };
    let what = format!("{source} is taken along as it is now ({files}): what is written to it stays in the container");
    reader.note(at, path, what, "run skepctl up again when it has changed");
}

/// Files below a directory, with the paths that they have below `target`.
fn tree(directory: &Path, target: &str, found: &mut Vec<(String, PathBuf, Metadata)>) -> io::Result<()> {
    let mut entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name().into_string().map_err(|name| io::Error::other(format!("{name:?} is no UTF-8")))?;
        let metadata = fs::metadata(&path)?;
        let target = format!("{target}/{name}");
        if metadata.is_dir() {
            tree(&path, &target, found)?;
        } else if metadata.is_file() {
            found.push((target, path, metadata));
        } else {
            return Err(io::Error::other(format!("{} is neither a file nor a directory", path.display())));
        }
        if found.len() > TREE_MAX {
            return Err(io::Error::other(format!("there are more than {TREE_MAX} files in it")));
        }
    }
    Ok(())
}

/// A path as it is meant at a place, from the root.
fn resolve(reader: &Reader<'_>, at: Place, source: &str) -> PathBuf {
    let home =
        || source.strip_prefix('~').and_then(|rest| Some(format!("{}{rest}", reader.sources.lookup(at, "HOME")?)));
    let path = reader.sources.directory(at).join(home().as_deref().unwrap_or(source));
    std::path::absolute(&path).unwrap_or(path)
}

fn content_of(reader: &mut Reader<'_>, at: Place, path: &str, file: &Path) -> Option<Content> {
    let problem = match octets(file) {
        Ok(octets) if octets.len() <= FILE_MAX => return Some(Content::new(octets)),
        Ok(_) => format!("{} has more than {FILE_MAX} octets", file.display()),
        Err(error) => format!("{} can't be read ({error})", file.display()),
    };
    reader.error(at, path, problem, "mend the path, or put the file into the image or a named volume");
    None
}

/// A file's content, up to what is too much.
fn octets(file: &Path) -> io::Result<Vec<u8>> {
    // What is no file may never end, or wait for ever.
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut octets = Vec::new();
    fs::File::open(file)?.take(FILE_MAX as u64 + 1).read_to_end(&mut octets)?;
    Ok(octets)
}
