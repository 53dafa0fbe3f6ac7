//! The tree.

use super::super::diagnostic::Place;

/// A node of the tree.
#[derive(Debug, Clone)]
pub(in crate::manifest) struct Node {
    pub(in crate::manifest) at: Place,
    pub(in crate::manifest) value: Value,
    pub(in crate::manifest) stance: Stance,
    /// It was written without quotes, and without a tag that says what it is.
    pub(in crate::manifest) plain: bool,
    /// Levels below and with it.
    pub(super) depth: usize,
    pub(super) size: usize,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(in crate::manifest) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// As written, quotes and escapes resolved: what type it is depends on who asks.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file, no key twice, merge keys resolved.
    Map(Vec<(Key, Node)>),
}

/// What a node does to what an earlier file says in its place. Compose Specification, 13-merge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::manifest) enum Stance {
    /// It is merged with it.
    #[default]
    Merge,
    /// `!override`: it takes its place.
    Override,
    /// `!reset`: nothing does.
    Reset,
}

/// A mapping's key.
#[derive(Debug, Clone)]
pub(in crate::manifest) struct Key {
    pub(in crate::manifest) at: Place,
    pub(in crate::manifest) text: String,
}

impl Node {
    pub(in crate::manifest) fn leaf(at: Place, value: Value) -> Self {
        Self { at, value, stance: Stance::Merge, plain: false, depth: 1, size: 1 }
    }

    /// A single value as if it were written without quotes.
    pub(in crate::manifest) fn word(at: Place, text: &str) -> Self {
        Self { plain: true, ..Self::leaf(at, Value::Scalar(text.to_owned())) }
    }

    /// A list or a mapping.
    pub(in crate::manifest) fn collection(at: Place, value: Value) -> Self {
        let children: &mut dyn Iterator<Item = &Self> = match &value {
            Value::List(items) => &mut items.iter(),
            Value::Map(entries) => &mut entries.iter().map(|(_, node)| node),
            Value::Null | Value::Scalar(_) => &mut std::iter::empty(),
        };
        let (depth, size) = children.fold((0, 1), |(depth, size), node| (depth.max(node.depth), size + node.size));
        Self { at, value, stance: Stance::Merge, plain: false, depth: depth + 1, size }
    }

    /// So many nodes, itself included.
    pub(in crate::manifest) fn size(&self) -> usize {
        self.size
    }

    /// A key and its value, if this is a mapping that has it.
    pub(in crate::manifest) fn entry(&self, key: &str) -> Option<&(Key, Self)> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(name, _)| name.text == key)
    }

    /// The value of a key, if this is a mapping that has it.
    pub(in crate::manifest) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|(_, node)| node)
    }

    /// Takes a key out of a mapping.
    pub(in crate::manifest) fn take(&mut self, key: &str) -> Option<Self> {
        let Value::Map(entries) = &mut self.value else { return None };
        let index = entries.iter().position(|(name, _)| name.text == key)?;
        Some(entries.remove(index).1)
    }

    /// Leaves out what is `!reset`, now that nothing comes after it.
    pub(in crate::manifest) fn settle(&mut self) {
        match &mut self.value {
            Value::Null | Value::Scalar(_) => {}
            Value::List(items) => {
                items.retain(|item| item.stance != Stance::Reset);
                items.iter_mut().for_each(Self::settle);
            }
            Value::Map(entries) => {
                entries.retain(|(_, node)| node.stance != Stance::Reset);
                entries.iter_mut().for_each(|(_, node)| node.settle());
            }
        }
    }

    /// Whether it says nothing: null, `false`, or an empty scalar or collection.
    pub(in crate::manifest) fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Scalar(text) => text.is_empty() || text == "false",
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }

    /// What it is, for people.
    pub(in crate::manifest) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}
