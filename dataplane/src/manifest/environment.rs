//! `environment` and `env_file`.

use std::collections::BTreeMap;
use std::io;

use super::diagnostic::Place;
use super::dotenv;
use super::keys::ENV_FILE;
use super::reader::{Reader, join};
use super::sources;
use super::yaml::{Node, Value};

/// Variables of a map or a list. A bare key takes the caller's value.
pub(super) fn variables(reader: &mut Reader<'_>, node: &Node, path: &str) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut unknown: Vec<(Place, String)> = Vec::new();
    let mut bare = |reader: &Reader<'_>, at, key: &str| {
        let value = reader.sources.lookup(at, key);
        if value.is_none() {
            unknown.push((at, key.to_owned()));
        }
        value
    };
    if let Value::Map(entries) = &node.value {
        for (key, value) in entries {
            let text = match value.value {
                Value::Null => bare(reader, key.at, &key.text),
                _ => reader.text(value, &join(path, &key.text)),
            };
            variables.extend(text.map(|text| (key.text.clone(), text)));
        }
    } else {
        for item in reader.list(node, path, false) {
            let Some(text) = reader.text(item, path) else { continue };
            match text.split_once('=') {
                Some((key, value)) => drop(variables.insert(key.to_owned(), value.to_owned())),
                None => {
                    let value = bare(reader, item.at, &text);
                    variables.extend(value.map(|value| (text, value)));
                }
            }
        }
    }
    left_out(reader, path, &unknown);
    variables
}

/// Variables that nobody gives a value are for those who want to; one note is enough.
fn left_out(reader: &mut Reader<'_>, path: &str, unknown: &[(Place, String)]) {
    let nowhere = "no value here and none where the command was started";
    match unknown {
        [] => {}
        [(at, key)] => reader.note(*at, &join(path, key), format!("is left out: it has {nowhere}"), "set it"),
        [(at, _), ..] => {
            let names: Vec<&str> = unknown.iter().map(|(_, key)| key.as_str()).collect();
            let what = format!("{} are left out: they have {nowhere}", names.join(", "));
            reader.note(*at, path, what, "set those that are needed");
        }
    }
}

/// Variables of all files, the later ones last.
pub(super) fn files(reader: &mut Reader<'_>, node: &Node, path: &str) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for item in reader.list(node, path, true) {
        let mut file = EnvFile { name: None, required: true, raw: false };
        if let Value::Map(_) = item.value {
            file.long_form(reader, item, path);
        } else {
            file.name = reader.text(item, path);
        }
        variables.extend(file.read(reader, item.at, path));
    }
    variables
}

struct EnvFile {
    name: Option<String>,
    required: bool,
    raw: bool,
}

impl EnvFile {
    fn long_form(&mut self, reader: &mut Reader<'_>, node: &Node, path: &str) {
        for field in reader.fields(node, path, &ENV_FILE) {
            match field.key {
                "path" => self.name = reader.text(field.node, &field.path),
                "required" => self.required = reader.flag(field.node, &field.path),
                _ => match reader.optional(field.node, &field.path).as_deref() {
                    None => {}
                    Some("raw") => self.raw = true,
                    Some(other) => {
                        let what = format!("{other:?} is no format");
                        reader.error(field.node.at, &field.path, what, "use raw, or remove it");
                    }
                },
            }
        }
        if self.name.is_none() {
            reader.error(node.at, path, "no path is given", "add path: with a file");
        }
    }

    fn read(&self, reader: &mut Reader<'_>, at: Place, path: &str) -> Vec<(String, String)> {
        let Some(name) = &self.name else { return Vec::new() };
        let file = reader.sources.directory(at).join(name);
        let text = match sources::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.required => return Vec::new(),
            Err(error) => {
                let what = format!("{} can't be read ({error})", file.display());
                reader.error(at, path, what, "mend the path, or write required: false");
                return Vec::new();
            }
        };
        match dotenv::parse(&text, self.raw, &|name| reader.sources.lookup(at, name)) {
            Ok(variables) => variables,
            Err(error) => {
                let what = format!("{}, line {}: {}", file.display(), error.line, error.what);
                reader.error(at, path, what, error.remedy);
                Vec::new()
            }
        }
    }
}
