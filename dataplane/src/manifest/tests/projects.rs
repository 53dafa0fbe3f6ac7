//! Compose files as real projects publish them (`tests/tests/projects`): what is said about each, what its `skep.yaml` changes
//! where it can't come up as it is, and everything that is made of it. All of that is in `expected`, beside the file.
//!
//! Of a service only what is not so by default is written down, from what is sent to skepd: no key can be dropped or read
//! otherwise without a difference.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::*;

/// Mappings whose keys are the file's own: they are shown a line each, however short they are.
const FREE: [&str; 3] = ["environment", "labels", "depends_on"];

#[test]
fn published_projects_come_up_as_is_written_down() {
    let projects = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tests/projects");
    let mut names: Vec<_> = std::fs::read_dir(&projects).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert!(names.len() >= 12, "{names:?}");
    for name in names {
        let directory = projects.join(name).canonicalize().unwrap();
        golden::check(&directory.join("expected"), &report(&directory));
    }
}

/// What becomes of a project.
fn report(directory: &Path) -> String {
    let [file, over] = ["compose.yaml", "skep.yaml"].map(|name| directory.join(name));
    let mut report = format!("# compose.yaml: {}", read(directory, vec![file.clone()]));
    if over.is_file() {
        assert!(report.starts_with("# compose.yaml: refused"), "{} needs no skep.yaml", directory.display());
        let _infallible = write!(report, "\n# and skep.yaml: {}", read(directory, vec![file, over]));
    }
    assert_eq!(report.matches(": comes up").count(), 1, "{report}");
    report
}

fn read(directory: &Path, files: Vec<PathBuf>) -> String {
    let options =
        Options { files, profiles: Vec::new(), project: None, environment: "production".into(), variables: &|_| None };
    let text = match load(&options) {
        Ok(manifest) => format!("comes up\n{}\n{}", said(&manifest.notes), facts(directory, &manifest)),
        Err(ManifestError::Refused(errors)) => format!("refused\n{}", said(&errors)),
        Err(error) => panic!("{error}"),
    };
    text.replace(&format!("{}/", directory.display()), "")
}

fn said(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

fn facts(directory: &Path, manifest: &Manifest) -> String {
    let spec = &manifest.spec;
    let mut lines = format!("{}\n", spec.key);
    for (name, network) in &spec.networks {
        let _infallible = writeln!(lines, "network {name}{}", if network.internal { ", internal" } else { "" });
    }
    for volume in &spec.volumes {
        let _infallible = writeln!(lines, "volume {volume}");
    }
    for (name, content) in &manifest.contents {
        let _infallible = writeln!(lines, "file {name}, {} octets", content.expose().len());
    }
    for (name, service) in &spec.services {
        let _infallible = writeln!(lines, "\n{name}: {}", service.image);
        show(&mut lines, 1, &essence(directory, service));
    }
    lines
}

/// A service, without what is so by default.
fn essence(directory: &Path, service: &ServiceSpec) -> Map<String, Value> {
    let [all, usual] = [service, &ServiceSpec::of_image(&service.image)].map(|spec| match json!(spec) {
        Value::Object(fields) => fields,
        other => panic!("{other}"),
    });
    let mut fields: Map<String, Value> = all.into_iter().filter(|(key, value)| usual.get(key) != Some(value)).collect();
    let lists = [
        (
            "networks",
            service
                .networks
                .iter()
                .map(|(name, network)| {
                    network.aliases.iter().fold(name.clone(), |name, alias| format!("{name} ({alias})"))
                })
                .collect::<Vec<_>>(),
        ),
        (
            "volumes",
            service
                .volumes
                .iter()
                .map(|mount| format!("{}:{}{}", mount.volume, mount.target, if mount.read_only { ":ro" } else { "" }))
                .collect(),
        ),
        // Owners and permissions of files from beside the compose file are the checkout's.
        (
            "files",
            service
                .files
                .iter()
                .map(|(target, file)| {
                    assert!(Path::new(&file.content).starts_with(directory) || !file.content.starts_with('/'));
                    format!("{}:{target}", file.content)
                })
                .collect(),
        ),
    ];
    for (key, list) in lists {
        if fields.contains_key(key) {
            fields.insert(key.to_owned(), json!(list));
        }
    }
    fields
}

fn show(lines: &mut String, level: usize, fields: &Map<String, Value>) {
    for (key, value) in fields {
        let _infallible = write!(lines, "{}{key}:", "  ".repeat(level));
        match value {
            Value::Object(inner) if FREE.contains(&key.as_str()) || inner.values().any(Value::is_object) => {
                lines.push('\n');
                show(lines, level + 1, inner);
            }
            Value::Object(inner) => {
                let said = inner.iter().filter(|(_, value)| !value.is_null());
                let _infallible =
                    writeln!(lines, " {}", Value::Object(said.map(|(k, v)| (k.clone(), v.clone())).collect()));
            }
            Value::Array(items) if ["volumes", "files"].contains(&key.as_str()) => {
                lines.push('\n');
                for item in items {
                    let _infallible =
                        writeln!(lines, "{}- {}", "  ".repeat(level + 1), item.as_str().unwrap_or_default());
                }
            }
            value => {
                let _infallible = writeln!(lines, " {value}");
            }
        }
    }
}
