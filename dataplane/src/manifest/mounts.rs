//! A service's `volumes`: named ones, in the short and the long form, file systems in memory, and what is taken along
//! from beside the file.

use super::diagnostic::Place;
use super::keys::{MOUNT, MOUNT_BIND, MOUNT_TMPFS, MOUNT_VOLUME};
use super::reader::Reader;
use super::yaml::{Node, Value};
use super::{files, limits};
use crate::model::ServiceSpec;
use crate::model::spec::VolumeMount;

const NAME_IT: &str = "declare a volume at the top, as in volumes: { data: }, and mount it as data:/path";

/// Where a volume without a name would be.
pub(super) struct Unnamed {
    at: Place,
    path: String,
    target: String,
}

/// Reads all mounts that can be; the others are errors.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, path: &str, spec: &mut ServiceSpec) -> Vec<Unnamed> {
    let mut unnamed = Vec::new();
    for item in reader.list(node, path, false) {
        let mount = match item.value {
            Value::Map(_) => long_form(reader, item, path, spec),
            _ => short_form(reader, item, path, spec),
        };
        match mount {
            Some(VolumeMount { volume, target, .. }) if volume.is_empty() => {
                unnamed.push(Unnamed { at: item.at, path: path.to_owned(), target });
            }
            mount => spec.volumes.extend(mount),
        }
    }
    unnamed
}

/// What takes the place of volumes without names: they would be gone with their container.
pub(super) fn settle(reader: &mut Reader<'_>, unnamed: Vec<Unnamed>, spec: &mut ServiceSpec) {
    for Unnamed { at, path, target } in unnamed {
        let what = match spec.settings.read_only {
            true => format!("{target} is kept in memory, and ends with its container: the volume has no name"),
            false => {
                format!("what is written to {target} stays in its container, and ends with it: the volume has no name")
            }
        };
        reader.note(at, &path, what, keep(&target, &target));
        if spec.settings.read_only {
            spec.settings.tmpfs.entry(target).or_default();
        }
    }
}

/// How data stays, by the example of a volume that is named after what it holds.
pub(super) fn keep(source: &str, target: &str) -> String {
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let last = source.split('/').rfind(|part| !part.is_empty() && *part != ".").unwrap_or_default();
    let name: String = last.chars().filter(fits).skip_while(|c| !c.is_ascii_alphanumeric()).collect();
    let name = if name.is_empty() { "data" } else { &name };
    format!("for data, mount a named volume: {name}:{target}, with volumes: {{ {name}: }} at the top")
}

/// `volume:/target`, with `:ro` or `:rw` behind it.
fn short_form(reader: &mut Reader<'_>, node: &Node, path: &str, spec: &mut ServiceSpec) -> Option<VolumeMount> {
    let text = reader.text(node, path)?;
    let mut parts = text.splitn(3, ':');
    let (source, target, mode) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let Some(target) = target else {
        if source.starts_with('/') {
            return Some(VolumeMount { volume: String::new(), target: source.to_owned(), read_only: false });
        }
        reader.error(node.at, path, format!("{text:?} is a volume without a name"), NAME_IT);
        return None;
    };
    if source.is_empty() {
        let remedy = "name a volume there, or set the variable that is to";
        reader.error(node.at, path, format!("there is nothing before the colon of {text:?}"), remedy);
        return None;
    }
    let mut read_only = false;
    for option in mode.into_iter().flat_map(|mode| mode.split(',')) {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            // SELinux labels: Docker's volumes have theirs. How mounts of a node would be seen on both sides, and cached.
            "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            other => {
                reader.error(node.at, path, format!("the option {other:?} is not known"), "use ro or rw");
            }
        }
    }
    if is_host_path(source) {
        bind(reader, node, path, (source, target), read_only, spec);
        return None;
    }
    Some(VolumeMount { volume: source.to_owned(), target: target.to_owned(), read_only })
}

fn long_form(reader: &mut Reader<'_>, node: &Node, path: &str, spec: &mut ServiceSpec) -> Option<VolumeMount> {
    let (mut kind, mut source, mut target, mut read_only) = (None, None, None, false);
    let (mut options, mut blocks) = (Vec::new(), Vec::new());
    for field in reader.fields(node, path, &MOUNT) {
        match field.key {
            "type" => kind = reader.text(field.node, &field.path),
            "source" => source = reader.optional(field.node, &field.path),
            "target" => target = reader.text(field.node, &field.path),
            "read_only" => read_only = reader.flag(field.node, &field.path),
            "tmpfs" => options = tmpfs_options(reader, field.node, &field.path),
            "bind" => drop(reader.fields(field.node, &field.path, &MOUNT_BIND)),
            _ => drop(reader.fields(field.node, &field.path, &MOUNT_VOLUME)),
        }
        if ["tmpfs", "bind", "volume"].contains(&field.key) && !field.node.is_empty() {
            blocks.push((field.key, field.at, field.path));
        }
    }
    for (block, at, path) in blocks {
        if kind.as_deref().unwrap_or("volume") != block {
            reader.note(at, &path, format!("has no effect: the mount is no {block}"), "");
        }
    }
    match kind.as_deref() {
        None | Some("volume") => {}
        Some("tmpfs") => {
            if source.is_some() || read_only {
                let remedy = "remove source and read_only, or give it another type";
                reader.error(
                    node.at,
                    path,
                    "memory that is empty at first has no source, and is there to be written to",
                    remedy,
                );
            }
            match target {
                Some(target) => drop(spec.settings.tmpfs.insert(target, options.join(","))),
                None => reader.error(node.at, path, "it has no target", "add target: with a path in the container"),
            }
            return None;
        }
        Some("bind") => {
            match (&source, &target) {
                (Some(source), Some(target)) => bind(reader, node, path, (source, target), read_only, spec),
                _ => reader.error(node.at, path, "it has no source or no target", "add both, each a path"),
            }
            return None;
        }
        Some(other) => {
            let what = format!("mounts of type {other:?} are not supported");
            reader.error(node.at, path, what, "use type: volume or type: tmpfs");
            return None;
        }
    }
    let Some(target) = target else {
        reader.error(node.at, path, "it has no target", "add target: with a path in the container");
        return None;
    };
    Some(VolumeMount { volume: source.unwrap_or_default(), target, read_only })
}

/// As mount(8) has them.
fn tmpfs_options(reader: &mut Reader<'_>, node: &Node, path: &str) -> Vec<String> {
    let mut options = Vec::new();
    for field in reader.fields(node, path, &MOUNT_TMPFS) {
        match field.key {
            "size" => options.extend(limits::size(reader, field.node, &field.path).map(|size| format!("size={size}"))),
            _ => match reader.optional(field.node, &field.path) {
                Some(mode) if mode.bytes().all(|b| (b'0'..=b'7').contains(&b)) => options.push(format!("mode={mode}")),
                Some(mode) => {
                    reader.error(field.at, &field.path, format!("{mode:?} is no mode"), "write it in octal, as 1777");
                }
                None => {}
            },
        }
    }
    options
}

fn is_host_path(source: &str) -> bool {
    source.starts_with(['/', '.', '~']) || source.contains(['/', '\\'])
}

/// Takes files along. Where a container would have its hands on the host, or see it, nothing is.
fn bind(
    reader: &mut Reader<'_>,
    node: &Node,
    path: &str,
    (source, target): (&str, &str),
    read_only: bool,
    spec: &mut ServiceSpec,
) {
    let parts: Vec<&str> = source.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let is_absolute = source.starts_with('/');
    let voids = match parts.as_slice() {
        [.., "docker.sock" | "containerd.sock"] => true,
        [] => is_absolute,
        ["proc" | "sys" | "dev" | "run", ..] | ["var", "run", ..] => is_absolute,
        ["etc" | "boot" | "root" | "var"] | ["var", "lib"] | ["var", "lib", "docker" | "skep", ..] => is_absolute,
        _ => false,
    };
    if voids {
        let what = format!("mounting {source} of the host would void the isolation between environments");
        let remedy = "remove it, here or by a further file with volumes: !override and the others; \
                      <service>: !reset null takes out a service that is nothing without it";
        return reader.error(node.at, path, what, remedy);
    }
    files::mounted(reader, (node.at, path), (source, target), read_only, &mut spec.files);
}
