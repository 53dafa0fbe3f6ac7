//! The guest's disks: Debian with systemd and Docker, a kernel's modules, what is given to it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use tests::{apt::Apt, command};

use crate::test::vm::{initramfs, kernel::Kernel};

/// The release whose programs the guest runs.
const SUITE: &str = "bookworm";
const PACKAGES: &str =
    "systemd,systemd-sysv,docker.io,iptables,nftables,iproute2,bpftool,kmod,procps,passwd,etcd-server";
/// Documentation, translations, lists of packages.
const NOT_WANTED: &str = "usr/share/doc usr/share/man usr/share/locale usr/share/info var/lib/apt/lists var/cache/apt";
/// What the guest does when it boots: see `words.sh`.
const UNIT: &str = "\
[Unit]
After=docker.service containerd.service
Wants=docker.service
[Service]
Type=exec
ExecStart=/bin/sh /opt/skep/stages
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
";
/// A static one.
pub(super) const BUSYBOX: &str = "/bin/busybox";
pub(super) const NO_BUSYBOX: &str = "/bin/busybox: install busybox-static";
const INIT: &str = include_str!("init.sh");
/// Before there is a root to load them from, and what nobody else would load; in this order, with what they depend on.
const MODULES: [&str; 4] = ["virtio_pci", "virtio_blk", "virtio_net", "ext4"];

/// Debian's root, made once; never written to.
pub(super) fn root(directory: &Path, apt: &Apt) -> Result<PathBuf> {
    let (disk, stamp) = (directory.join("root.ext4"), directory.join("root.recipe"));
    let recipe = [SUITE, PACKAGES, NOT_WANTED, UNIT].join("\n");
    if disk.is_file() && fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) {
        return Ok(disk);
    }
    println!("Making a Debian with systemd and Docker (once) …");
    let root = directory.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    let mut bootstrap = Command::new("mmdebstrap");
    bootstrap.args(["--mode=root", "--variant=essential", "--quiet", &format!("--include={PACKAGES}"), SUITE]);
    command::run(bootstrap.arg(&root).arg(apt.source(SUITE)?))?;
    for path in NOT_WANTED.split(' ') {
        let path = root.join(path);
        if path.exists() {
            fs::remove_dir_all(path)?;
        }
    }
    fs::write(root.join("etc/hostname"), "node-1\n")?;
    fs::write(root.join("etc/systemd/system/stages.service"), UNIT)?;
    symlink("../stages.service", root.join("etc/systemd/system/multi-user.target.wants/stages.service"))?;
    for directory in ["opt/skep", "lib/modules"] {
        fs::create_dir_all(root.join(directory))?;
    }
    pack(&root, &disk, "2G")?;
    fs::remove_dir_all(&root)?;
    // Last: it says that all the rest is there.
    fs::write(stamp, recipe)?;
    Ok(disk)
}

/// A machine's own.
pub(super) fn copy(root: &Path, disk: &Path) -> Result<()> {
    command::run(Command::new("cp").arg("--sparse=always").arg(root).arg(disk)).map(drop)
}

/// A kernel's modules, as a disk.
pub(super) fn modules(kernel: &Kernel) -> Result<PathBuf> {
    let disk = kernel.directory().join("modules.ext4");
    pack(&kernel.directory().join("root/usr/lib/modules"), &disk, "768M")?;
    Ok(disk)
}

/// Finds the disks and hands over to systemd.
pub(super) fn initramfs(kernel: &Kernel) -> Result<PathBuf> {
    let directory = kernel.directory().join("machine-initramfs");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    for name in ["bin", "dev", "proc", "sys", "root"] {
        fs::create_dir_all(directory.join(name))?;
    }
    fs::copy(BUSYBOX, directory.join("bin/busybox")).context(NO_BUSYBOX)?;
    fs::write(directory.join("init"), INIT)?;
    fs::set_permissions(directory.join("init"), fs::Permissions::from_mode(0o755))?;
    initramfs::add_modules(&directory, &kernel.modules(&MODULES)?)?;
    let archive = kernel.directory().join("machine.cpio");
    initramfs::pack(&directory, &archive)?;
    Ok(archive)
}

/// Makes a disk with a directory's content.
pub(super) fn pack(content: &Path, disk: &Path, size: &str) -> Result<()> {
    if disk.exists() {
        fs::remove_file(disk)?;
    }
    let mut make = Command::new("/sbin/mke2fs");
    make.args(["-q", "-t", "ext4", "-E", "root_owner=0:0", "-d"]).arg(content).arg(disk).arg(size);
    command::run(&mut make).map(drop)
}
