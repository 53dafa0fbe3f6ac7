//! `extends`: a service that is another one with changes. Compose Specification, 05-services, "extends".

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use super::super::diagnostic::Place;
use super::super::keys::EXTENDS;
use super::super::reader::join;
use super::super::sources::{FileId, directory_of};
use super::super::yaml::{Node, Stance, Value};
use super::{Assembly, TRAIL_MAX, identity, merge};

/// A service by its file and its name.
type Step = (PathBuf, String);

/// What a service extends.
struct Base {
    at: Place,
    service: String,
    file: Option<String>,
}

impl Assembly<'_, '_> {
    /// A file whose services extend nothing any more.
    pub(super) fn extending(&mut self, mut root: Node, file: FileId) -> Node {
        let Some(services) = root.get("services").filter(|node| matches!(node.value, Value::Map(_))).cloned() else {
            return root;
        };
        let Value::Map(entries) = &mut root.value else { return root };
        let Some((_, node)) = entries.iter_mut().find(|(key, _)| key.text == "services") else { return root };
        let Value::Map(all) = &mut node.value else { return root };
        let identity = identity(self.reader.sources.path(file));
        for (name, service) in all {
            let mut trail = vec![(identity.clone(), name.text.clone())];
            let plain = std::mem::replace(service, Node::leaf(service.at, Value::Null));
            *service = self.extended(&services, plain, &join("services", &name.text), &mut trail);
        }
        root
    }

    /// A service over the one that it extends, and that one over its own; `services` are all of its file.
    fn extended(&mut self, services: &Node, mut service: Node, path: &str, trail: &mut Vec<Step>) -> Node {
        let Some(extends) = service.take("extends") else { return service };
        let Some(base) = self.base(&extends, &join(path, "extends")) else { return service };
        let Some(below) = self.below(services, &base, path, trail) else { return service };
        let mut at = vec!["services".to_owned(), String::new()];
        // How it stands to an earlier file is one thing, to what it extends another.
        let stance = std::mem::replace(&mut service.stance, Stance::Merge);
        let mut whole = merge::merged(self.reader, below, service, &mut at);
        whole.stance = stance;
        whole
    }

    fn base(&mut self, extends: &Node, path: &str) -> Option<Base> {
        let (at, mut service, mut file) = (extends.at, None, None);
        if let Value::Map(_) = extends.value {
            for field in self.reader.fields(extends, path, &EXTENDS) {
                match field.key {
                    "service" => service = self.reader.text(field.node, &field.path),
                    _ => file = self.reader.optional(field.node, &field.path),
                }
            }
            if service.is_none() {
                self.reader.error(at, path, "no service is given", "add service: with the one to extend");
            }
        } else {
            service = self.reader.text(extends, path);
        }
        Some(Base { at, service: service?, file })
    }

    /// The service that is extended, whole.
    fn below(&mut self, services: &Node, base: &Base, path: &str, trail: &mut Vec<Step>) -> Option<Node> {
        let path = join(path, "extends");
        let other = match &base.file {
            Some(file) => Some(self.other(base, &path, file)?),
            None => None,
        };
        let (file, other) = other.unzip();
        let services = match &other {
            Some(other) => other.get("services"),
            None => Some(services),
        };
        let file = file.or_else(|| trail.last().map(|(file, _)| file.clone())).unwrap_or_default();
        let Some(below) = services.and_then(|services| services.get(&base.service)) else {
            let what = format!("there is no service {:?} in {}", base.service, file.display());
            self.reader.error(base.at, &path, what, "mend the name, or add file: with the one that has it");
            return None;
        };
        let step = (file, base.service.clone());
        if trail.contains(&step) || trail.len() > TRAIL_MAX {
            let way: Vec<&str> = trail.iter().map(|(_, service)| service.as_str()).collect();
            let what = format!("{} extends {}, and so on", way.join(" extends "), base.service);
            self.reader.error(base.at, &path, what, "end with a service that extends none");
            return None;
        }
        self.spend(base.at, below)?;
        trail.push(step);
        let whole = self.extended(services?, below.clone(), &join("services", &base.service), trail);
        trail.pop();
        Some(whole)
    }

    /// Another file, as it stands. Its paths start from where it is; its variables are those of who extends.
    fn other(&mut self, base: &Base, path: &str, name: &str) -> Option<(PathBuf, Rc<Node>)> {
        let sources = &mut self.reader.sources;
        let (within, name) = (sources.scope_of(base.at.file), sources.directory(base.at).join(name));
        let key = (identity(&name), within);
        if !self.others.contains_key(&key) {
            let scope = sources.scope(directory_of(&name), BTreeMap::new(), Some(within));
            let opened = self.open(base.at, path, &name, scope);
            let root = opened.and_then(|(file, text)| self.parsed(file, &text)).map(Rc::new);
            self.others.insert(key.clone(), root);
        }
        let root = self.others.get(&key).cloned().flatten()?;
        Some((key.0, root))
    }
}
