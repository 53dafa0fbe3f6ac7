//! Images in the form that `docker load` takes.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command;

/// An archive in the making: layers are linked, not copied.
#[derive(Debug)]
pub(super) struct Archive {
    directory: TempDir,
    images: Vec<Value>,
}

impl Archive {
    /// An empty one, in `directory`.
    pub(super) fn new(directory: &Path) -> Result<Self> {
        Ok(Self { directory: tempfile::tempdir_in(directory)?, images: Vec::new() })
    }

    /// Adds an image: its name and tag, its configuration as JSON, its layers (tar, compressed or not), lowest first.
    pub(super) fn add(&mut self, tag: &str, config: &[u8], layers: &[PathBuf]) -> Result<()> {
        let number = self.images.len();
        let file = format!("{number}.json");
        fs::write(self.directory.path().join(&file), config)?;
        let mut names = Vec::new();
        for layer in layers {
            let name = layer.file_name().and_then(|name| name.to_str()).context("a layer without a name")?;
            // Images share layers: one link for all of them.
            let _there = symlink(layer, self.directory.path().join(name));
            names.push(name);
        }
        self.images.push(json!({ "Config": file, "RepoTags": [tag], "Layers": names }));
        Ok(())
    }

    /// Loads it into the engine at `docker` (`unix:///…`).
    pub(super) fn load(self, docker: &str) -> Result<()> {
        self.write(|tar| command::run(Command::new("docker").args(["--host", docker, "load", "--quiet"]).stdin(tar)))
    }

    /// Writes it to `file`.
    pub(super) fn save(self, file: &Path) -> Result<()> {
        self.write(|mut tar| Ok(std::io::copy(&mut tar, &mut fs::File::create(file)?)?))
    }

    /// Writes it to whoever reads.
    fn write<T>(self, read: impl FnOnce(ChildStdout) -> Result<T>) -> Result<()> {
        fs::write(self.directory.path().join("manifest.json"), json!(self.images).to_string())?;
        let mut tar = Command::new("tar")
            .args(["--create", "--dereference", "--directory"])
            .arg(self.directory.path())
            .arg(".")
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start tar")?;
        read(tar.stdout.take().context("tar has no output")?)?;
        ensure!(tar.wait()?.success(), "tar failed");
        Ok(())
    }
}
