//! `cargo xtask test reboot`: the package on a whole machine, whose power is cut.
//!
//! A guest with systemd, Docker and nothing of Skep installs the package, brings two environments up, loses its power
//! without warning under requests, and boots again, then once more in an orderly way: every replica, address and name
//! has to be back, and from power-on on nobody may have got an answer who must not: not an environment from the other,
//! nor from its own database what may not ask it, nor the machine itself, nor another one on its network. Then the package is
//! installed over itself, removed, brought back and purged, and `skepd install` and `uninstall` do the same without one.

mod guest;
mod image;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ::tests::apt::Apt;
use ::tests::command;
use ::tests::images::{self, Image};
use anyhow::{Context as _, Result, ensure};

use self::guest::Guest;
use self::report::{Facts, Report};
use super::kernel::{self, Kernel};
use crate::dist;
use crate::setup;
use crate::shell::{as_root_again, pass};

/// Kernels of a short run, and those that a long one adds: today's stable one; the oldest, which has no tcx.
const SERIES: [&str; 2] = ["6.12", "6.1"];
/// A stage that takes longer hangs; the processor is emulated, on a computer that may have others to serve.
const DEADLINE: Duration = Duration::from_secs(20 * 60);
const COMPOSE: &str = include_str!("reboot/compose.yaml");
const PROBE: &str = include_str!("reboot/probe.sh");

/// Set-up, package, image, a guest for each kernel, table.
pub(in crate::test) fn run(yes: bool, series: &[String], long: bool) -> Result<()> {
    if let Some(mut again) = as_root_again()? {
        return pass(&mut again);
    }
    setup::run(&setup::Arguments { yes, vm: true })?;
    let series = match (series.is_empty(), long) {
        (false, _) => series.to_vec(),
        (true, true) => SERIES.map(str::to_owned).to_vec(),
        (true, false) => vec![SERIES[0].to_owned()],
    };
    let directory = ::tests::paths::target().join("vm");
    fs::create_dir_all(directory.join("reboot"))?;
    let directory = directory.canonicalize()?;
    let kernels = kernel::newest(&directory, &series)?;
    let apt = Apt::new()?;
    let own = directory.join("reboot");
    let root = image::root(&own, &apt)?;
    let payload = payload(&own)?;
    let mut all = Vec::new();
    for kernel in &kernels {
        println!("Booting {}, cutting its power, booting it, rebooting it …", kernel.release());
        let facts = machine(kernel, &root, &payload).with_context(|| format!("kernel {}", kernel.release()))?;
        all.push((kernel.release().to_owned(), facts));
    }
    println!("\n{}", Report(&all));
    Ok(())
}

/// A disk with what the guest is given: the package, an image of containers, what they run.
fn payload(directory: &Path) -> Result<PathBuf> {
    let content = directory.join("payload");
    if content.exists() {
        fs::remove_dir_all(&content)?;
    }
    fs::create_dir_all(&content)?;
    fs::copy(dist::package_for_this_computer()?, content.join("skep.deb"))?;
    images::save(&[Image::Busybox], &content.join("images.tar"))?;
    // One line: YAML's quotes and Compose's own variables leave the script alone.
    fs::write(
        content.join("compose.yaml"),
        COMPOSE.replace("PROBE", &serde_json::to_string(&PROBE.replace('$', "$$"))?),
    )?;
    fs::write(content.join("stages"), include_str!("reboot/stages.sh"))?;
    fs::write(content.join("outside.sh"), include_str!("reboot/outside.sh"))?;
    fs::copy(image::BUSYBOX, content.join("busybox")).context(image::NO_BUSYBOX)?;
    let disk = directory.join("payload.ext4");
    image::pack(&content, &disk, "64M")?;
    Ok(disk)
}

/// One machine, from its first boot to its last.
fn machine(kernel: &Kernel, root: &Path, payload: &Path) -> Result<Facts> {
    let disk = kernel.directory().join("reboot.ext4");
    command::run(Command::new("cp").arg("--sparse=always").arg(root).arg(&disk))?;
    let modules = image::modules(kernel)?;
    let initramfs = image::initramfs(kernel)?;
    let disks = [disk.as_path(), payload, &modules];
    let console = |boot: &str| kernel.directory().join(format!("reboot-{boot}.log"));
    let mut facts = Facts::default();
    // The last word of each stage, and whether what follows is for the guest to do.
    for (boot, word, orderly) in [("first", "cut", false), ("cut", "reboot", true), ("reboot", "done", false)] {
        let mut guest = Guest::boot(kernel, &initramfs, &disks, &console(boot))?;
        facts.read(&guest.until(word, DEADLINE)?);
        let consoles = kernel.directory().display();
        ensure!(facts.failures.is_empty(), "{}; the consoles are in {consoles}", facts.failures.join("; "));
        if orderly {
            guest.ended(DEADLINE)?;
        } else {
            // Like a plug that is pulled: the kernel of the guest does not hear of it.
            guest.kill()?;
        }
    }
    fs::remove_file(&disk)?;
    facts.must_be_whole()?;
    Ok(facts)
}
