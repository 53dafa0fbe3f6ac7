//! Other people's firewalls: ufw, and firewalld with a D-Bus of its own. From packages of this computer's own
//! distribution, unpacked only, once, under `target/firewalls`.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::images::packages::{self, Source};
use crate::machine::Machine;
use crate::{command, paths};

/// What is wanted; what these depend on comes along.
const PACKAGES: &[&str] = &[
    "base-files",
    "base-passwd",
    "coreutils",
    "dash",
    "dbus",
    "firewalld",
    "grep",
    "iptables",
    "libc-bin",
    "mawk",
    "nftables",
    "procps",
    "python3",
    "sed",
    "systemd",
    "ufw",
];
const FINISH: &str = include_str!("firewalls/finish.sh");
const ENTER: &str = include_str!("firewalls/enter.sh");
const BUS: &str = include_str!("firewalls/bus.conf");

/// The packages on one machine: what they write is kept there, and their files are seen by them alone.
#[derive(Debug)]
pub struct Firewalls<'a> {
    machine: &'a Machine,
    root: PathBuf,
}

impl<'a> Firewalls<'a> {
    /// Downloads the packages unless that was done before.
    ///
    /// # Errors
    /// They cannot be downloaded.
    pub fn on(machine: &'a Machine) -> Result<Self> {
        let root = root().context("ufw and firewalld")?;
        Ok(Self { machine, root })
    }

    /// Runs a shell script with the packages' programs, on the machine's network; it must succeed.
    ///
    /// # Errors
    /// A command of it fails.
    pub fn shell(&self, script: &str) -> Result<String> {
        let (root, place) = (self.root.display().to_string(), self.place());
        let enter = ["unshare", "--mount", "sh", "-ec", ENTER, "enter", &root, &place];
        self.machine.run(&[&enter[..], &["sh", "-ec", script]].concat())
    }

    /// Forgets what was written.
    ///
    /// # Errors
    /// Something is still mounted there.
    pub fn forget(&self) -> Result<()> {
        self.machine.run(&["rm", "-rf", "--one-file-system", &self.place()]).map(drop)
    }

    fn place(&self) -> String {
        self.machine.directory().join("firewalls").display().to_string()
    }
}

/// The unpacked packages, made now if they are not there or are to be others by now.
fn root() -> Result<PathBuf> {
    let kept = paths::target().join("firewalls");
    fs::create_dir_all(&kept)?;
    let kept = kept.canonicalize()?;
    let (root, stamp) = (kept.join("root"), kept.join("recipe"));
    let lock = File::create(kept.join("lock"))?;
    lock.lock()?;
    let recipe = [&PACKAGES.join(" "), &packages::recipe(), FINISH, BUS].join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) {
        return Ok(root);
    }
    eprintln!("Unpacking ufw and firewalld (once) …");
    let _absent = fs::remove_dir_all(&root);
    fs::create_dir(&root)?;
    packages::unpack(&root, PACKAGES, Source::Host)?;
    command::run(Command::new("sh").args(["-ec", FINISH, "finish"]).arg(&root))?;
    fs::write(root.join("etc/bus.conf"), BUS)?;
    // Last: it says that all the rest is there.
    fs::write(stamp, recipe)?;
    Ok(root)
}
