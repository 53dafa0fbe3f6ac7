//! The tree as one Compose file again.

use std::fmt::Write as _;

use super::reader::Reader;
use super::yaml::{Node, Value};
use crate::model::EnvironmentSpec;
use crate::model::name::normalise;

/// Columns of a level.
const INDENT: usize = 2;

/// Everything that is taken of a project's files, under its name. Files that hold variables are named from the root: nobody knows
/// any more which file named them.
pub(super) fn yaml(reader: &Reader<'_>, root: &Node, spec: &EnvironmentSpec) -> String {
    let mut printer = Printer { reader, spec, out: String::new() };
    let _infallible = writeln!(printer.out, "name: {}", scalar(&spec.key.project, true));
    let Value::Map(entries) = &root.value else { return printer.out };
    for (key, node) in entries.iter().filter(|(key, _)| !["name", "version"].contains(&key.text.as_str())) {
        printer.entry(&[], &key.text, node);
    }
    printer.out
}

struct Printer<'a, 'r> {
    reader: &'a Reader<'r>,
    spec: &'a EnvironmentSpec,
    out: String,
}

impl Printer<'_, '_> {
    /// A key of the mapping at `path`, with its value.
    fn entry(&mut self, path: &[&str], key: &str, node: &Node) {
        let taken = || normalise(key).is_ok_and(|name| self.spec.services.contains_key(&name));
        if path == ["services"] && !taken() {
            return;
        }
        let path = [path, &[key]].concat();
        self.indent(path.len() - 1);
        self.out.push_str(&scalar(key, true));
        self.out.push(':');
        self.value(&path, node);
    }

    /// What comes after a key and its colon, or an item's hyphen: on the same line, or below it.
    fn value(&mut self, path: &[&str], node: &Node) {
        match &node.value {
            Value::Null => self.out.push('\n'),
            Value::Scalar(text) => {
                let text = self.text(path, node, text);
                let _infallible = writeln!(self.out, " {}", scalar(&text, node.plain));
            }
            Value::List(items) if items.is_empty() => self.out.push_str(" []\n"),
            Value::Map(entries) if entries.is_empty() => self.out.push_str(" {}\n"),
            Value::List(items) => {
                self.out.push('\n');
                for item in items {
                    self.indent(path.len());
                    self.out.push('-');
                    self.value(&[path, &["-"]].concat(), item);
                }
            }
            Value::Map(entries) => {
                self.out.push('\n');
                for (key, node) in entries {
                    self.entry(path, &key.text, node);
                }
            }
        }
    }

    /// With its variables; a dollar sign that is meant is written as Compose reads it.
    fn text(&self, path: &[&str], node: &Node, text: &str) -> String {
        let text = self.reader.meant(node.at, text);
        let is_file = matches!(path, ["services", _, "env_file" | "label_file", ..])
            && !matches!(path.last(), Some(&("required" | "format")));
        if !is_file {
            return text.replace('$', "$$");
        }
        let file = self.reader.sources.directory(node.at).join(&text);
        std::path::absolute(&file).unwrap_or(file).display().to_string().replace('$', "$$")
    }

    fn indent(&mut self, level: usize) {
        self.out.extend(std::iter::repeat_n(' ', level * INDENT));
    }
}

/// Plain where it was and that is the same; else in double quotes, as JSON has them, which YAML reads alike.
fn scalar(text: &str, plain: bool) -> String {
    let mut characters = text.chars();
    let begins = characters.next().is_some_and(|first| first.is_ascii_alphanumeric() || "_/.".contains(first));
    let goes_on = characters.all(|c| c.is_ascii_alphanumeric() || "_-/.+@%=,".contains(c));
    let nothing = ["null", "Null", "NULL"].contains(&text);
    match plain && begins && goes_on && !nothing {
        true => text.to_owned(),
        false => serde_json::Value::from(text).to_string(),
    }
}
