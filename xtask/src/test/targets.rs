//! The test programs that Cargo builds.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::shell::cargo;

/// The name under which documentation tests are asked for.
pub(super) const DOC: &str = "doc";

/// A test program.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The crate for unit tests, the file's stem for integration tests.
    pub(super) name: String,
    pub(crate) executable: PathBuf,
    /// Where it expects to run: its crate's directory.
    pub(crate) directory: PathBuf,
    /// Integration tests need root, unit tests must not.
    pub(super) root: bool,
}

/// A line of Cargo's JSON messages, as far as it is of interest.
#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    profile: Option<Profile>,
    target: Option<CargoTarget>,
}

#[derive(Debug, Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Debug, Deserialize)]
struct CargoTarget {
    name: String,
    kind: Vec<String>,
}

/// What Cargo has to build: everything, or only the files if only files are wanted.
pub(super) fn selection(names: &[String]) -> Vec<String> {
    let directory = tests::paths::workspace().join("tests/tests");
    let is_file = |name: &String| {
        directory.join(format!("{name}.rs")).is_file() || directory.join(name).join("main.rs").is_file()
    };
    if names.is_empty() || !names.iter().all(is_file) {
        return ["--lib", "--bins", "--tests"].map(str::to_owned).to_vec();
    }
    names.iter().flat_map(|name| ["--test".to_owned(), name.clone()]).collect()
}

/// Builds the tests that `selection` names to Cargo; gives them with unit tests first.
pub(crate) fn build(selection: &[String]) -> Result<Vec<Target>> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]).args(selection);
    println!("$ {}", tests::command::line(&command));
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "the tests do not build");
    let mut targets = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.starts_with('{')) {
        let message: Message = serde_json::from_str(line).with_context(|| format!("Cargo's message: {line}"))?;
        targets.extend(target(message)?);
    }
    targets.sort_by(|a, b| (a.root, &a.name).cmp(&(b.root, &b.name)));
    Ok(targets)
}

/// The test program that a message announces, if it does.
fn target(message: Message) -> Result<Option<Target>> {
    let (Some(executable), Some(target), Some(manifest)) = (message.executable, message.target, message.manifest_path)
    else {
        return Ok(None);
    };
    if message.reason != "compiler-artifact" || !message.profile.is_some_and(|profile| profile.test) {
        return Ok(None);
    }
    let directory = manifest.parent().context("a manifest without a directory")?.to_path_buf();
    let root = target.kind.iter().any(|kind| kind == "test");
    Ok(Some(Target { name: target.name, executable, directory, root }))
}

/// Those of the names; all when there are none.
pub(super) fn choose(all: Vec<Target>, names: &[String]) -> Result<Vec<Target>> {
    if names.is_empty() {
        return Ok(all);
    }
    let known: Vec<String> = all.iter().map(|target| target.name.clone()).chain([DOC.to_owned()]).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(name)) {
        bail!("no tests are called {name}; there are {}, and vm", known.join(", "));
    }
    Ok(all.into_iter().filter(|target| names.contains(&target.name)).collect())
}
