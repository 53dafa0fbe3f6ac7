//! A service's `volumes`: named ones, in the short and the long form, and file systems in memory.

use std::collections::BTreeMap;

use super::keys::{MOUNT, MOUNT_TMPFS, MOUNT_VOLUME};
use super::limits;
use super::reader::Reader;
use super::yaml::{Node, Value};
use crate::model::spec::VolumeMount;

const NAME_IT: &str = "declare a volume at the top, as in volumes: { data: }, and mount it as data:/path";

/// Reads all mounts that can be; the others are errors. Those in memory, with their options, go to `tmpfs`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    node: &Node,
    path: &str,
    tmpfs: &mut BTreeMap<String, String>,
) -> Vec<VolumeMount> {
    let mut mounts = Vec::new();
    for item in reader.list(node, path, false) {
        let mount = match item.value {
            Value::Map(_) => long_form(reader, item, path, tmpfs),
            _ => short_form(reader, item, path),
        };
        mounts.extend(mount);
    }
    mounts
}

/// `volume:/target`, with `:ro` or `:rw` behind it.
fn short_form(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<VolumeMount> {
    let text = reader.text(node, path)?;
    let mut parts = text.splitn(3, ':');
    let (source, target, mode) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let Some(target) = target else {
        reader.error(node.at, path, format!("{text:?} is a volume without a name"), NAME_IT);
        return None;
    };
    if is_host_path(source) {
        refuse_bind(reader, node, path, source);
        return None;
    }
    let mut read_only = false;
    for option in mode.into_iter().flat_map(|mode| mode.split(',')) {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            // SELinux labels: Docker's volumes have theirs.
            "z" | "Z" => {}
            other => {
                reader.error(node.at, path, format!("the option {other:?} is not known"), "use ro or rw");
            }
        }
    }
    Some(VolumeMount { volume: source.to_owned(), target: target.to_owned(), read_only })
}

fn long_form(
    reader: &mut Reader<'_>,
    node: &Node,
    path: &str,
    tmpfs: &mut BTreeMap<String, String>,
) -> Option<VolumeMount> {
    let (mut kind, mut source, mut target, mut read_only) = (None, None, None, false);
    let mut options = Vec::new();
    for field in reader.fields(node, path, &MOUNT) {
        match field.key {
            "type" => kind = reader.text(field.node, &field.path),
            "source" => source = reader.optional(field.node, &field.path),
            "target" => target = reader.text(field.node, &field.path),
            "read_only" => read_only = reader.flag(field.node, &field.path),
            "tmpfs" => options = tmpfs_options(reader, field.node, &field.path),
            _ => drop(reader.fields(field.node, &field.path, &MOUNT_VOLUME)),
        }
    }
    match kind.as_deref() {
        None | Some("volume") => {}
        Some("tmpfs") => {
            match target {
                Some(target) => drop(tmpfs.insert(target, options.join(","))),
                None => reader.error(node.at, path, "it has no target", "add target: with a path in the container"),
            }
            return None;
        }
        Some("bind") => {
            refuse_bind(reader, node, path, source.as_deref().unwrap_or_default());
            return None;
        }
        Some(other) => {
            let what = format!("mounts of type {other:?} are not supported");
            reader.error(node.at, path, what, "use type: volume or type: tmpfs");
            return None;
        }
    }
    let Some(volume) = source else {
        reader.error(node.at, path, "a volume without a name", NAME_IT);
        return None;
    };
    let Some(target) = target else {
        reader.error(node.at, path, "it has no target", "add target: with a path in the container");
        return None;
    };
    Some(VolumeMount { volume, target, read_only })
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

/// Directories of the host in a container are its hands on the host; some of them are the host.
fn refuse_bind(reader: &mut Reader<'_>, node: &Node, path: &str, source: &str) {
    let parts: Vec<&str> = source.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let voids = match parts.as_slice() {
        [] => source.starts_with('/'),
        [.., "docker.sock" | "containerd.sock"] | ["proc" | "sys" | "dev" | "run", ..] | ["var", "run", ..] => true,
        ["etc" | "boot" | "root" | "var"] | ["var", "lib"] | ["var", "lib", "docker" | "skep", ..] => true,
        _ => false,
    };
    if voids {
        let what = format!("mounting {source} of the host would void the isolation between environments");
        reader.error(node.at, path, what, "remove it");
    } else {
        let what = format!("{source} of the host: bind mounts are not supported yet");
        reader.error(node.at, path, what, "put the files into the image, or use a named volume");
    }
}
