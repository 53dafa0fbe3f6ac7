//! Reads nodes as what they should be, and collects what is wrong on the way.

use std::collections::BTreeMap;

use super::diagnostic::{Diagnostic, Place};
use super::interpolate::{InterpolationError, interpolate};
use super::keys::{Class, Section};
use super::sources::Sources;
use super::yaml::{Node, Value};
use crate::model::file::Content;

/// A reader of one project.
pub(super) struct Reader<'a> {
    pub(super) sources: Sources<'a>,
    pub(super) errors: Vec<Diagnostic>,
    pub(super) notes: Vec<Diagnostic>,
    /// Where the keys of the result came from, for what is found when all of it is known.
    pub(super) places: BTreeMap<String, Place>,
    /// What files hold, by the names that services' files give them.
    pub(super) contents: BTreeMap<String, Content>,
}

/// A key of a mapping that is honoured, with its value.
pub(super) struct Field<'n> {
    pub(super) key: &'static str,
    pub(super) at: Place,
    pub(super) path: String,
    pub(super) node: &'n Node,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sources: Sources<'a>) -> Self {
        Self { sources, errors: Vec::new(), notes: Vec::new(), places: BTreeMap::new(), contents: BTreeMap::new() }
    }

    pub(super) fn error(&mut self, at: Place, path: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let diagnostic = self.diagnostic(at, path, what.into(), remedy.into());
        self.errors.push(diagnostic);
    }

    pub(super) fn note(&mut self, at: Place, path: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let diagnostic = self.diagnostic(at, path, what.into(), remedy.into());
        self.notes.push(diagnostic);
    }

    fn diagnostic(&self, at: Place, path: &str, what: String, remedy: String) -> Diagnostic {
        let Place { file, line, column } = at;
        let file = self.sources.path(file).to_owned();
        // One line each, whatever the file's keys and values hold.
        let key = path.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'");
        let what = what.replace(['\n', '\r'], " ");
        Diagnostic { file, line, column, key, what, remedy: remedy.replace(['\n', '\r'], " ") }
    }

    /// A mapping with free names.
    pub(super) fn entries<'n>(&mut self, node: &'n Node, path: &str) -> &'n [(super::yaml::Key, Node)] {
        match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            _ => {
                self.error(node.at, path, format!("is {}", node.kind()), "write a mapping: names with a colon");
                &[]
            }
        }
    }

    /// A mapping with the keys of a section: its honoured ones. Notes and errors are made of the others.
    pub(super) fn fields<'n>(&mut self, node: &'n Node, path: &str, section: &'static Section) -> Vec<Field<'n>> {
        let mut fields = Vec::new();
        for (key, value) in self.entries(node, path) {
            let path = join(path, &key.text);
            let known = section.keys.iter().find(|(name, _)| *name == key.text);
            match known {
                Some((name, Class::Honoured | Class::Explained(_))) => {
                    fields.push(Field { key: name, at: key.at, path, node: value });
                }
                // What says nothing or "no" asks for nothing.
                Some(_) if self.says_nothing(value) => {}
                Some((_, Class::NoEffect(why))) => self.note(key.at, &path, format!("has no effect: {why}"), ""),
                Some((_, Class::Replaced(remedy))) => self.note(key.at, &path, "has no effect here", *remedy),
                Some((_, Class::Refused(why, remedy))) => self.error(key.at, &path, *why, *remedy),
                None if key.text.starts_with("x-") && key.text != "x-skep" => {}
                None => {
                    let remedy = match section.similar(&key.text) {
                        Some(similar) => format!("did you mean {similar}?"),
                        None if key.text == "x-skep" => "move it to a service".into(),
                        None => "remove it; keys of your own begin with x-".into(),
                    };
                    self.error(key.at, &path, "is not a known key", remedy);
                }
            }
        }
        fields
    }

    /// [`Node::is_empty`], with the values of variables.
    fn says_nothing(&self, node: &Node) -> bool {
        match &node.value {
            Value::Scalar(text) => matches!(self.meant(node.at, text).as_str(), "" | "false"),
            _ => node.is_empty(),
        }
    }

    /// As [`Self::fields`], and keeps where each stands; `place` is the mapping's own among [`Self::places`].
    pub(super) fn placed<'n>(
        &mut self,
        node: &'n Node,
        path: &str,
        place: &str,
        section: &'static Section,
    ) -> Vec<Field<'n>> {
        let fields = self.fields(node, path, section);
        self.places.extend(fields.iter().map(|field| (join(place, field.key), field.at)));
        fields
    }

    /// A list. A single value is taken as a list of one if `single`.
    pub(super) fn list<'n>(&mut self, node: &'n Node, path: &str, single: bool) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            Value::Null => &[],
            Value::Scalar(_) if single => std::slice::from_ref(node),
            _ => {
                self.error(node.at, path, format!("is {}", node.kind()), "write a list: lines that begin with -");
                &[]
            }
        }
    }

    /// A single value, interpolated.
    pub(super) fn text(&mut self, node: &Node, path: &str) -> Option<String> {
        match &node.value {
            Value::Scalar(text) => self.interpolated(node.at, path, text),
            _ => {
                self.error(node.at, path, format!("is {}", node.kind()), "write a single value");
                None
            }
        }
    }

    /// A single value, which may be empty, or nothing.
    pub(super) fn given(&mut self, node: &Node, path: &str) -> Option<String> {
        if matches!(node.value, Value::Null) { None } else { self.text(node, path) }
    }

    /// A single value that is not empty, or nothing.
    pub(super) fn optional(&mut self, node: &Node, path: &str) -> Option<String> {
        self.given(node, path).filter(|text| !text.is_empty())
    }

    pub(super) fn flag(&mut self, node: &Node, path: &str) -> bool {
        if matches!(node.value, Value::Null) {
            return false;
        }
        let Some(text) = self.text(node, path) else { return false };
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => true,
            "false" | "no" | "off" => false,
            _ => {
                self.error(node.at, path, format!("{text:?} is neither true nor false"), "write true or false");
                false
            }
        }
    }

    pub(super) fn number(&mut self, node: &Node, path: &str) -> Option<u32> {
        let text = self.text(node, path)?;
        let number = text.parse().ok();
        if number.is_none() {
            self.error(node.at, path, format!("{text:?} is no number from 0 to {}", u32::MAX), "write a whole number");
        }
        number
    }

    /// What a text is about to become, where it only says which of two things is meant: nothing is said about it.
    pub(super) fn meant(&self, at: Place, text: &str) -> String {
        let result = interpolate(text, &|name| self.sources.lookup(at, name));
        result.map_or_else(|_| text.to_owned(), |result| result.text)
    }

    pub(super) fn interpolated(&mut self, at: Place, path: &str, text: &str) -> Option<String> {
        match interpolate(text, &|name| self.sources.lookup(at, name)) {
            Ok(result) => {
                for variable in result.unset {
                    let remedy = format!("set it, or write ${{{variable}:-default}}");
                    self.note(at, path, format!("the variable {variable} is not set and counts as empty"), remedy);
                }
                Some(result.text)
            }
            Err(InterpolationError::Format(form)) => {
                let what = format!("{form:?} is no form of ${{VARIABLE}}");
                self.error(at, path, what, "write $$ for a dollar sign");
                None
            }
            Err(InterpolationError::Required { variable, message }) => {
                let what = format!("the variable {variable} is not set");
                self.error(at, path, what, if message.is_empty() { "set it".into() } else { message });
                None
            }
        }
    }
}

/// The path of a key within another.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
