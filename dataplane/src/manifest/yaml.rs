//! YAML as a small tree in which everything knows its place. Built from the parser's events, so that every
//! duplicate key is found, and that neither depth nor aliases can exhaust stack or memory.

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use super::diagnostic::Place;
use super::sources::FileId;

mod flow;
mod node;

pub(super) use node::{Key, Node, Stance, Value};

/// Deepest nesting, aliases included. A compose file needs about eight.
const DEPTH_MAX: usize = 64;
/// Most nodes, aliases included.
pub(super) const SIZE_MAX: usize = 200_000;

/// Something that is wrong with the YAML.
#[derive(Debug)]
pub(super) struct YamlError {
    pub(super) at: Place,
    pub(super) what: String,
    pub(super) remedy: &'static str,
}

/// Parses one document. The tree is missing if the text is no YAML; whatever else is wrong comes beside it.
pub(super) fn parse(file: FileId, text: &str) -> (Option<Node>, Vec<YamlError>) {
    let mut text = flow::Text::new(text);
    loop {
        let mut builder = Builder::new();
        match builder.build(file, &text) {
            Ok(()) => return (builder.root, builder.errors),
            Err(error) if text.mend(&error) => {}
            Err(error) => {
                let (at, what) = (place(file, &text, error.marker()), format!("not YAML: {}", error.info()));
                builder.errors.push(YamlError { at, what, remedy: "mend the syntax there" });
                return (None, builder.errors);
            }
        }
    }
}

fn place(file: FileId, text: &flow::Text<'_>, marker: &Marker) -> Place {
    Place { file, line: marker.line(), column: text.column(marker.line(), marker.col()) + 1 }
}

struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    errors: Vec<YamlError>,
    documents: usize,
    size: usize,
}

/// A collection whose end has not been seen.
struct Open {
    at: Place,
    anchor: usize,
    stance: Stance,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, seen: BTreeSet<String>, merges: Vec<Node>, key: Option<Key> },
}

impl Builder {
    fn new() -> Self {
        let (root, open, anchors, errors) = Default::default();
        Self { root, open, anchors, errors, documents: 0, size: 0 }
    }

    /// Takes the whole text, or what is before something that makes the rest meaningless.
    fn build(&mut self, file: FileId, text: &flow::Text<'_>) -> Result<(), ScanError> {
        for event in Parser::new_from_str(&text.text) {
            let (event, span) = event?;
            if let Err(fatal) = self.take(event, place(file, text, &span.start)) {
                self.errors.push(fatal);
                self.root = None;
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>, at: Place) -> Result<(), YamlError> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => self.document(at),
            Event::Scalar(text, style, anchor, tag) => {
                let (is_string, stance) = self.tagged(at, tag.as_deref());
                let plain = style == ScalarStyle::Plain && !is_string;
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null { Value::Null } else { Value::Scalar(text.into_owned()) };
                self.count(at, 1)?;
                self.close(Node { stance, plain, ..Node::leaf(at, value) }, anchor)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let node = node.clone();
                    self.count(at, node.size)?;
                    self.close(node, 0)
                }
                None => {
                    Err(YamlError { at, what: "the alias is inside its own anchor".into(), remedy: "write it out" })
                }
            },
            Event::SequenceStart(anchor, tag) => {
                let (_, stance) = self.tagged(at, tag.as_deref());
                self.begin(Open { at, anchor, stance, content: Content::List(Vec::new()) })
            }
            Event::MappingStart(anchor, tag) => {
                let (_, stance) = self.tagged(at, tag.as_deref());
                let (entries, seen, merges) = (Vec::new(), BTreeSet::new(), Vec::new());
                self.begin(Open { at, anchor, stance, content: Content::Map { entries, seen, merges, key: None } })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
        }
    }

    fn document(&mut self, at: Place) -> Result<(), YamlError> {
        self.documents += 1;
        if self.documents > 1 {
            let what = "a second document begins here".into();
            return Err(YamlError { at, what, remedy: "keep one document in the file" });
        }
        Ok(())
    }

    fn begin(&mut self, open: Open) -> Result<(), YamlError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(too_deep(open.at));
        }
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self) -> Result<(), YamlError> {
        let Some(Open { at, anchor, stance, content }) = self.open.pop() else { return Ok(()) };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map { mut entries, mut seen, merges, .. } => {
                for merge in merges {
                    self.merge(&mut entries, &mut seen, merge);
                }
                Value::Map(entries)
            }
        };
        self.count(at, 1)?;
        self.close(Node { stance, ..Node::collection(at, value) }, anchor)
    }

    /// Of the nodes that there may be.
    fn count(&mut self, at: Place, nodes: usize) -> Result<(), YamlError> {
        self.size += nodes;
        if self.size > SIZE_MAX {
            let what = format!("more than {SIZE_MAX} values, aliases counted");
            return Err(YamlError { at, what, remedy: "write a smaller file" });
        }
        Ok(())
    }

    /// Puts a complete node where it belongs.
    fn close(&mut self, node: Node, anchor: usize) -> Result<(), YamlError> {
        if node.depth + self.open.len() > DEPTH_MAX {
            return Err(too_deep(node.at));
        }
        if anchor > 0 {
            self.count(node.at, node.size)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, seen, merges, key }) => match key.take() {
                None => *key = Some(self::key(node, &mut self.errors)),
                Some(merge) if merge.text == "<<" => merges.push(node),
                Some(key) => {
                    if seen.insert(key.text.clone()) {
                        entries.push((key, node));
                    } else {
                        let what = format!("the key {:?} is here a second time", key.text);
                        self.errors.push(YamlError { at: key.at, what, remedy: "keep one of them" });
                    }
                }
            },
        }
        Ok(())
    }

    /// YAML's merge key: what the mapping itself says wins, then the earlier one of a list.
    fn merge(&mut self, entries: &mut Vec<(Key, Node)>, seen: &mut BTreeSet<String>, from: Node) {
        match from.value {
            Value::Map(more) => entries.extend(more.into_iter().filter(|(key, _)| seen.insert(key.text.clone()))),
            Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
                for item in items {
                    self.merge(entries, seen, item);
                }
            }
            _ => self.errors.push(YamlError {
                at: from.at,
                what: "<< takes a mapping or a list of mappings".into(),
                remedy: "give it aliases of mappings",
            }),
        }
    }

    /// Whether a tag makes a string of it, and what it does to earlier files.
    fn tagged(&mut self, at: Place, tag: Option<&Tag>) -> (bool, Stance) {
        let Some(tag) = tag else { return (false, Stance::Merge) };
        if tag.is_yaml_core_schema() {
            return (tag.suffix == "str", Stance::Merge);
        }
        match (tag.handle.as_str(), tag.suffix.as_str()) {
            ("!", "reset") => (false, Stance::Reset),
            ("!", "override") => (false, Stance::Override),
            _ => {
                let what = format!("the tag {tag} has no meaning here");
                self.errors.push(YamlError { at, what, remedy: "remove it" });
                (tag.suffix == "str", Stance::Merge)
            }
        }
    }
}

fn key(node: Node, errors: &mut Vec<YamlError>) -> Key {
    let text = match node.value {
        Value::Scalar(text) => text,
        Value::Null if node.plain => "null".to_owned(),
        Value::Null | Value::List(_) | Value::Map(_) => {
            let what = "a collection can't be a key".into();
            errors.push(YamlError { at: node.at, what, remedy: "write a name before the colon" });
            String::new()
        }
    };
    Key { at: node.at, text }
}

fn too_deep(at: Place) -> YamlError {
    YamlError { at, what: format!("nested more than {DEPTH_MAX} deep"), remedy: "write a flatter file" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(node: &Node) -> String {
        match &node.value {
            Value::Null => "~".into(),
            Value::Scalar(text) => text.clone(),
            Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(",")),
            Value::Map(entries) => {
                let entries: Vec<_> =
                    entries.iter().map(|(key, node)| format!("{}:{}", key.text, show(node))).collect();
                format!("{{{}}}", entries.join(","))
            }
        }
    }

    fn parsed(text: &str) -> String {
        let (root, errors) = parse(FileId::FIRST, text);
        assert!(errors.is_empty(), "{errors:?}");
        show(&root.unwrap())
    }

    #[test]
    fn anchors_aliases_and_merge_keys_are_resolved() {
        let text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz:\n  <<: [*x, *y]\n  a: own\nw: {<<: *y}\nv: *x\n";
        assert_eq!(parsed(text), "{x:{a:1,b:2},y:{b:3,c:4},z:{a:own,b:2,c:4},w:{b:3,c:4},v:{a:1,b:2}}");
    }

    #[test]
    fn null_is_only_what_is_written_plainly() {
        assert_eq!(parsed("a:\nb: ~\nc: null\nd: 'null'\ne: ''\nf: !!str null\n"), "{a:~,b:~,c:~,d:null,e:,f:null}");
    }

    #[test]
    fn brackets_may_stand_below_their_key() {
        let text =
            "a:\n  b: [\n      1,\n  2,\n  ]\n  c: {\n  d: [\n  x y\n  z], e: 'f'\n  }\n  c: 3\ng:\n- h: [\n1\n]\n";
        let (root, errors) = parse(FileId::FIRST, text);
        assert_eq!(show(&root.unwrap()), "{a:{b:[1,2],c:{d:[x y z],e:f}},g:[{h:[1]}]}");
        // Places are those of the text as it is.
        assert_eq!(errors.iter().map(|e| (e.at.line, e.at.column)).collect::<Vec<_>>(), [(11, 3)]);
        // Whatever ends a line, and however long its characters are.
        for text in
            ["a:\r  b: ['é',\r  2\r  ]\r", "a: # é\r\n  b: ['é',\r\n  2\r\n  ]\r\n", "\u{feff}a:\n  b: ['é',\n 2]\n"]
        {
            assert_eq!(parsed(text), "{a:{b:[é,2]}}", "{text:?}");
        }
        let (root, errors) = parse(FileId::FIRST, "a:\n  b: [\n  1, [2\n  ]\nc: 1\n");
        assert!(root.is_none(), "{errors:?}");
        assert_eq!((errors[0].at.line, errors[0].at.column), (5, 2), "{errors:?}");
        let many = format!("a:\n  b: [\n{}  ]\n", "  x,\n".repeat(1_000));
        assert!(parse(FileId::FIRST, &many).0.is_none());
    }

    #[test]
    fn every_duplicate_is_found_with_its_place() {
        let (root, errors) = parse(FileId::FIRST, "a: 1\na: 2\nb:\n  c: 1\n  c: 2\n");
        assert_eq!(show(&root.unwrap()), "{a:1,b:{c:1}}");
        assert_eq!(errors.iter().map(|e| (e.at.line, e.at.column)).collect::<Vec<_>>(), [(2, 1), (5, 3)]);
    }

    #[test]
    fn bombs_are_refused() {
        let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..12 {
            let aliases = vec![format!("*a{}", i - 1); 10].join(",");
            laughs.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for text in [laughs, deep, "a: &a [*a]".into(), "a: *b".into(), "a: 1\n---\nb: 2".into(), "a: [".into()] {
            assert!(parse(FileId::FIRST, &text).0.is_none(), "{}", &text[..30.min(text.len())]);
        }
    }
}
