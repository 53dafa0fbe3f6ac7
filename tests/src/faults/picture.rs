//! What a node is, by programs that know nothing of Skep: `ip`, `bpftool`, `nft`, `docker`, `ss`, `ps`, `find`.
//!
//! A picture is a set of lines. What may be another one after a repair (an index, a container's id, a cookie, a
//! generation, a counter) is replaced by the name of what it stands for, or left out.

mod bpf;
mod containers;
mod network;
mod system;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::node::Node;

/// What a node is; see the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picture {
    lines: BTreeSet<String>,
    lingering: BTreeSet<String>,
}

/// The names of things whose numbers change.
#[derive(Debug, Default)]
struct Names {
    /// Container names by id.
    containers: BTreeMap<String, String>,
    /// The process of each container that owns a network namespace, by name.
    namespaces: BTreeMap<String, u64>,
    /// Devices of the host by index.
    devices: BTreeMap<u64, String>,
    /// Names of the containers whose network namespace has this cookie.
    cookies: BTreeMap<u64, String>,
}

impl Picture {
    /// Takes it.
    ///
    /// # Errors
    /// A reader fails, as it may while something comes or goes.
    pub fn take(node: &Node) -> Result<Self> {
        let mut picture = Self::default();
        let mut names = Names::default();
        containers::read(node, &mut picture, &mut names).context("docker")?;
        network::read(node, &mut picture, &mut names).context("ip")?;
        bpf::read(node, &mut picture, &names).context("bpftool")?;
        system::read(node, &mut picture, &names)?;
        Ok(picture)
    }

    /// What is not as in `self`: a line each, with what is missing first.
    #[must_use]
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let missing = self.lines.difference(&now.lines).map(|line| format!("missing: {line}"));
        let new = now.lines.difference(&self.lines).map(|line| format!("new: {line}"));
        missing.chain(new).collect()
    }

    /// What may be there for some seconds only: backend sets that nobody refers to any more.
    #[must_use]
    pub fn lingering(&self) -> &BTreeSet<String> {
        &self.lingering
    }

    /// Every line.
    #[must_use]
    pub fn lines(&self) -> &BTreeSet<String> {
        &self.lines
    }

    fn add(&mut self, line: String) {
        self.lines.insert(line);
    }
}

impl Names {
    /// Puts names for container ids (whole, or the first 12 digits), and `*` for what else is as long and hexadecimal.
    fn put(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
            let (word, after) = rest.split_at(if digits == 0 { first(rest) } else { digits });
            let known = (digits >= 12).then(|| self.containers.range(word.to_owned()..).next()).flatten();
            match known {
                Some((id, name)) if id.starts_with(word) => out.push_str(name),
                _ if digits == 64 || digits == 12 => out.push('*'),
                _ => out.push_str(word),
            }
            rest = after;
        }
        out
    }
}

/// Octets of the first character.
fn first(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

/// Documents one after the other, as several runs of a program print them.
fn documents(text: &str) -> Result<Vec<Value>> {
    let parsed = serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>();
    parsed.with_context(|| format!("no JSON: {text}"))
}

/// The elements of an array; nothing of anything else.
fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// An object with only these of its members, as text.
fn only(value: &Value, members: &[&str]) -> String {
    // Docker has two words for nothing, and says now this, now that.
    let nothing = |it: &&Value| it.is_null() || it.as_array().is_some_and(Vec::is_empty);
    let found = members.iter().filter_map(|member| Some((member, value.get(member).filter(|it| !nothing(it))?)));
    found.map(|(member, it)| format!("{member} {it}")).collect::<Vec<_>>().join(", ")
}

/// A value without these members, at any depth.
fn without(value: &Value, members: &[&str]) -> Value {
    match value {
        Value::Object(all) => {
            let kept = all.iter().filter(|(name, _)| !members.contains(&name.as_str()));
            Value::Object(kept.map(|(name, value)| (name.clone(), without(value, members))).collect())
        }
        Value::Array(all) => Value::Array(all.iter().map(|value| without(value, members)).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_replaced_by_names() {
        let id = "0123456789abcdef".repeat(4);
        let names = Names { containers: [(id.clone(), "web".to_owned())].into(), ..Names::default() };
        assert_eq!(names.put(&format!("shim -id {id} of 0123456789ab, é")), "shim -id web of web, é");
        assert_eq!(names.put(&format!("/overlay2/{}/merged", "f".repeat(64))), "/overlay2/*/merged");
        assert_eq!(names.put("10.208.0.1 fd53:6b65 feed"), "10.208.0.1 fd53:6b65 feed");
    }

    #[test]
    fn differences_go_both_ways() {
        let with = |lines: &[&str]| Picture {
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            ..Picture::default()
        };
        let differences = with(&["a", "b"]).differences(&with(&["b", "c"]));
        assert_eq!(differences, ["missing: a", "new: c"]);
    }
}
