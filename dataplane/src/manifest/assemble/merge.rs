//! What one file says over what another one does. Compose Specification, 13-merge.

use std::collections::BTreeMap;

use super::super::diagnostic::Place;
use super::super::reader::Reader;
use super::super::yaml::{Key, Node, Stance, Value};
use super::listed;

/// How two values at one place become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// By what they are: mappings key by key, lists one after the other, single values by the later one.
    Usual,
    /// The later one.
    Replace,
    /// `KEY=value` in a list, or a mapping.
    Pairs,
    /// Names in a list, or a mapping of them.
    Names,
    /// The same, where a name alone says what the mapping would say by default.
    Dependencies,
    /// Lists, or single values; of items that are about the same thing, the later one.
    Items(Thing),
    /// As usual, unless the drivers differ.
    Logging,
}

/// What an item of a list is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thing {
    /// All of it.
    Itself,
    /// What is before a colon, as in `tmpfs`.
    BeforeColon,
    /// A mount's place in the container.
    Mount,
    /// A secret's or a config's file in the container.
    File,
    /// A file of variables.
    EnvFile,
}

/// By path; what is not named is merged as usual.
fn rule(path: &[String]) -> Rule {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["services", _, key] => match *key {
            // A build is nobody's concern here.
            "build" | "command" | "entrypoint" => Rule::Replace,
            "annotations" | "environment" | "labels" | "sysctls" => Rule::Pairs,
            "depends_on" => Rule::Dependencies,
            "models" | "networks" => Rule::Names,
            "cap_add" | "cap_drop" | "dns" | "dns_opt" | "dns_search" | "expose" | "extra_hosts" | "label_file"
            | "links" | "profiles" => Rule::Items(Thing::Itself),
            "configs" | "secrets" => Rule::Items(Thing::File),
            "env_file" => Rule::Items(Thing::EnvFile),
            "logging" => Rule::Logging,
            "tmpfs" => Rule::Items(Thing::BeforeColon),
            "devices" | "volumes" => Rule::Items(Thing::Mount),
            _ => Rule::Usual,
        },
        ["services", _, "healthcheck", "test"]
        | ["services", _, "ulimits", _]
        | ["services", _, "x-skep", "release"] => Rule::Replace,
        ["services", _, "networks", _, "aliases"] => Rule::Items(Thing::Itself),
        ["services", _, "deploy", "labels"] | ["networks" | "volumes", _, "labels"] => Rule::Pairs,
        _ => Rule::Usual,
    }
}

/// `over` over `base`, both at a path.
pub(super) fn merged(reader: &mut Reader<'_>, base: Node, over: Node, path: &mut Vec<String>) -> Node {
    match (over.stance, base.stance) {
        (Stance::Override | Stance::Reset, _) | (_, Stance::Reset) => return over,
        (Stance::Merge, _) => {}
    }
    let rule = rule(path);
    match rule {
        Rule::Replace => over,
        Rule::Logging if drivers_differ(reader, &base, &over) => over,
        Rule::Usual | Rule::Logging => usual(reader, base, over, path),
        Rule::Pairs => match (pairs(reader, &base), pairs(reader, &over)) {
            (Some(before), Some(after)) => {
                let entries = before.into_iter().chain(after).map(|entry| (Some(entry.0.text.clone()), entry));
                Node::collection(base.at, Value::Map(latest(entries)))
            }
            _ => usual(reader, base, over, path),
        },
        Rule::Names | Rule::Dependencies => match (names(reader, &base, rule), names(reader, &over, rule)) {
            (Some(before), Some(after)) => {
                let (before, after) = (Value::Map(before), Value::Map(after));
                let (base, over) = (Node::collection(base.at, before), Node::collection(over.at, after));
                usual(reader, base, over, path)
            }
            _ => usual(reader, base, over, path),
        },
        Rule::Items(thing) => match (items(&base), items(&over)) {
            (Some(before), Some(after)) => {
                let items = latest(before.into_iter().chain(after).map(|item| (about(reader, thing, &item), item)));
                Node::collection(base.at, Value::List(items))
            }
            _ => usual(reader, base, over, path),
        },
    }
}

fn usual(reader: &mut Reader<'_>, base: Node, over: Node, path: &mut Vec<String>) -> Node {
    let (kind, place) = (base.kind(), base.at);
    match (base.value, over.value) {
        (value, Value::Null) => Node::collection(base.at, value),
        (Value::Map(mut entries), Value::Map(more)) => {
            let known: BTreeMap<String, usize> =
                entries.iter().enumerate().map(|(index, (key, _))| (key.text.clone(), index)).collect();
            for (key, node) in more {
                let Some((name, before)) = known.get(&key.text).and_then(|index| entries.get_mut(*index)) else {
                    entries.push((key, node));
                    continue;
                };
                path.push(key.text.clone());
                let is_whole = !matches!(node.value, Value::Map(_));
                let earlier = std::mem::replace(before, Node::leaf(node.at, Value::Null));
                *before = merged(reader, earlier, node, path);
                path.pop();
                if is_whole {
                    // It stands where it was said last.
                    *name = key;
                }
            }
            Node::collection(place, Value::Map(entries))
        }
        (Value::List(mut items), Value::List(more)) => {
            items.extend(more);
            Node::collection(place, Value::List(items))
        }
        (Value::Null | Value::Scalar(_), value) => Node::collection(over.at, value),
        (_, value) => {
            let over = Node::collection(over.at, value);
            let file = reader.sources.path(place.file).display().to_string();
            let what = format!("is {}, and {kind} in {file}:{}", over.kind(), place.line);
            reader.error(over.at, &path.join("."), what, "write both alike, or !override before the later one");
            over
        }
    }
}

/// Each thing as it is said last, where it is said first; what is about nothing stays as it is.
fn latest<T>(all: impl Iterator<Item = (Option<String>, T)>) -> Vec<T> {
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut result: Vec<T> = Vec::new();
    for (about, item) in all {
        let same = about.as_ref().and_then(|about| known.get(about)).and_then(|index| result.get_mut(*index));
        if let Some(same) = same {
            *same = item;
            continue;
        }
        known.extend(about.map(|about| (about, result.len())));
        result.push(item);
    }
    result
}

/// The items of a list of `KEY=value`, or a mapping's. [`None`]: it is neither.
fn pairs(reader: &Reader<'_>, node: &Node) -> Option<Vec<(Key, Node)>> {
    if let Value::Map(entries) = &node.value {
        return Some(entries.clone());
    }
    let pair = |item: &Node| {
        let Value::Scalar(text) = &item.value else { return None };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Value::Scalar(value.to_owned())),
            None => (text.as_str(), Value::Null),
        };
        let key = Key { at: item.at, text: reader.meant(item.at, name) };
        let mut node = Node::leaf(item.at, value);
        node.stance = item.stance;
        Some((key, node))
    };
    match &node.value {
        Value::Null => Some(Vec::new()),
        Value::List(items) => items.iter().map(pair).collect(),
        Value::Scalar(_) | Value::Map(_) => None,
    }
}

/// The names in a list as keys of a mapping that says nothing about them, or what it means by default; or a mapping's.
fn names(reader: &Reader<'_>, node: &Node, rule: Rule) -> Option<Vec<(Key, Node)>> {
    let mut entries = pairs(reader, node)?;
    let is_list = matches!(node.value, Value::List(_));
    if is_list && entries.iter().any(|(_, node)| !matches!(node.value, Value::Null)) {
        return None;
    }
    if is_list && rule == Rule::Dependencies {
        for (_, node) in &mut entries {
            let stance = std::mem::replace(node, started(node.at)).stance;
            node.stance = stance;
        }
    }
    Some(entries)
}

/// What a name alone in a list of dependencies means.
fn started(at: Place) -> Node {
    let entry = |(key, value): (&str, &str)| (Key { at, text: key.to_owned() }, Node::word(at, value));
    Node::collection(at, Value::Map([("condition", "service_started"), ("required", "true")].map(entry).into()))
}

/// What a list, or a single value, has; a mapping's `KEY=value`.
fn items(node: &Node) -> Option<Vec<Node>> {
    if let Value::Map(entries) = &node.value {
        let line = |(key, value): &(Key, Node)| match &value.value {
            Value::Scalar(text) => Some(vec![Node::leaf(key.at, Value::Scalar(format!("{}={text}", key.text)))]),
            Value::List(items) => items
                .iter()
                .map(|item| match &item.value {
                    Value::Scalar(text) => Some(Node::leaf(item.at, Value::Scalar(format!("{}={text}", key.text)))),
                    _ => None,
                })
                .collect(),
            Value::Null | Value::Map(_) => None,
        };
        return Some(entries.iter().map(line).collect::<Option<Vec<_>>>()?.concat());
    }
    listed(node).map(<[Node]>::to_vec)
}

/// What an item is about. [`None`]: it can't be told, which its reader will say.
fn about(reader: &Reader<'_>, thing: Thing, item: &Node) -> Option<String> {
    let text = |node: &Node| match &node.value {
        Value::Scalar(text) => Some(reader.meant(node.at, text)),
        _ => None,
    };
    let key = |key: &str| item.get(key).and_then(text);
    match (thing, text(item)) {
        (Thing::Itself, text) => text,
        (Thing::BeforeColon, text) => text?.split(':').next().map(str::to_owned),
        (Thing::Mount, Some(text)) => {
            let mut parts = text.split(':');
            let first = parts.next()?;
            Some(parts.next().unwrap_or(first).to_owned())
        }
        (Thing::Mount, None) => key("target"),
        (Thing::File, text) => text.or_else(|| key("target")).or_else(|| key("source")),
        // The same words are another file in another directory.
        (Thing::EnvFile, text) => {
            let file = reader.sources.directory(item.at).join(text.or_else(|| key("path"))?);
            Some(file.to_string_lossy().into_owned())
        }
    }
}

fn drivers_differ(reader: &Reader<'_>, base: &Node, over: &Node) -> bool {
    let driver = |node: &Node| match &node.get("driver")?.value {
        Value::Scalar(text) => Some(reader.meant(node.at, text)),
        _ => None,
    };
    driver(base).zip(driver(over)).is_some_and(|(before, after)| before != after)
}
