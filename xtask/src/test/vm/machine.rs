//! Whole machines: Debian with systemd and Docker in QEMU, which say on their console what they see.

mod facts;
mod guest;
mod image;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::tests::apt::Apt;
use ::tests::images::{self, Image};
use anyhow::{Context as _, Result};

pub(super) use self::facts::Facts;
pub(super) use self::guest::{Guest, Network, Setting};
use super::kernel::{self, Kernel};
use crate::dist;
use crate::setup;

/// A stage that takes longer hangs; the processor is emulated, on a computer that may have others to serve.
pub(super) const DEADLINE: Duration = Duration::from_secs(20 * 60);
const WORDS: &str = include_str!("machine/words.sh");
const PROBE: &str = include_str!("machine/probe.sh");

/// What machines of a test have in common.
pub(super) struct Machines {
    root: PathBuf,
    payload: PathBuf,
}

/// What is peculiar to a test.
pub(super) struct Content {
    /// What a machine does when it boots, after the words that all know.
    pub(super) stages: &'static str,
    /// What it brings up; `PROBE` stands for the probe's script.
    pub(super) compose: &'static str,
    /// Further files, by name.
    pub(super) files: &'static [(&'static str, &'static str)],
}

impl Machines {
    /// Set-up, package, image; and a kernel for each of `series`.
    pub(super) fn of(name: &str, content: &Content, yes: bool, series: &[&str]) -> Result<(Self, Vec<Kernel>)> {
        setup::run(&setup::Arguments { yes, vm: true })?;
        let directory = ::tests::paths::target().join("vm");
        let own = directory.join(name);
        for directory in [&directory.join("machine"), &own] {
            fs::create_dir_all(directory)?;
        }
        let (directory, own) = (directory.canonicalize()?, own.canonicalize()?);
        let kernels = kernel::newest(&directory, &series.iter().map(|&series| series.to_owned()).collect::<Vec<_>>())?;
        let root = image::root(&directory.join("machine"), &Apt::new()?)?;
        Ok((Self { root, payload: payload(&own, content)? }, kernels))
    }

    /// One of them, powered off: it has never been on before. Its disk and what its console says are named after it.
    pub(super) fn machine<'k>(&self, kernel: &'k Kernel, name: &str) -> Result<Machine<'k>> {
        let disk = kernel.directory().join(format!("{name}.ext4"));
        image::copy(&self.root, &disk)?;
        let (modules, initramfs) = (image::modules(kernel)?, image::initramfs(kernel)?);
        let disks = [disk, self.payload.clone(), modules];
        Ok(Machine { kernel, name: name.to_owned(), initramfs, disks })
    }
}

/// One machine.
pub(super) struct Machine<'k> {
    kernel: &'k Kernel,
    name: String,
    initramfs: PathBuf,
    disks: [PathBuf; 3],
}

impl Machine<'_> {
    /// Powers it on. What its console says is written to a file that has `boot` in its name.
    pub(super) fn boot(&self, boot: &str, setting: &Setting<'_>) -> Result<Guest> {
        let console = self.kernel.directory().join(format!("{}-{boot}.log", self.name));
        Guest::boot(self.kernel, &self.initramfs, &self.disks, &console, setting)
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // Gigabytes, and of no use to anybody.
        drop(fs::remove_file(&self.disks[0]));
    }
}

/// A disk with what a machine is given: the package, an image of containers, what they run.
fn payload(directory: &Path, content: &Content) -> Result<PathBuf> {
    let files = directory.join("payload");
    if files.exists() {
        fs::remove_dir_all(&files)?;
    }
    fs::create_dir_all(&files)?;
    fs::copy(dist::package_for_this_computer()?, files.join("skep.deb"))?;
    images::save(&[Image::Busybox], &files.join("images.tar"))?;
    // One line: YAML's quotes and Compose's own variables leave the script alone.
    let probe = serde_json::to_string(&PROBE.replace('$', "$$"))?;
    fs::write(files.join("compose.yaml"), content.compose.replace("PROBE", &probe))?;
    fs::write(files.join("stages"), [WORDS, content.stages].concat())?;
    for (name, text) in content.files {
        fs::write(files.join(name), text)?;
    }
    fs::copy(image::BUSYBOX, files.join("busybox")).context(image::NO_BUSYBOX)?;
    let disk = directory.join("payload.ext4");
    image::pack(&files, &disk, "64M")?;
    Ok(disk)
}
