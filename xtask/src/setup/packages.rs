//! Packages of Debian and Ubuntu.

use std::{collections::BTreeSet, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::shell::{answer, as_root, pass};

/// To build, to test, to look at what went wrong.
const PACKAGES: &[&str] = &[
    "bind9-dnsutils",
    "busybox-static",
    "ca-certificates",
    "curl",
    "dnsmasq-base",
    "ethtool",
    "gcc",
    "golang-go",
    "iproute2",
    "iptables",
    "iputils-ping",
    "jq",
    "libc6-dev",
    "libprotobuf-dev",
    "musl-tools",
    "ncat",
    "nftables",
    "procps",
    "protobuf-compiler",
    "python3",
    "skopeo",
    "socat",
    "tcpdump",
    "util-linux",
];
/// For other kernels in QEMU.
const VM_PACKAGES: &[&str] = &["cpio", "e2fsprogs", "kmod", "mmdebstrap", "xz-utils", "debian-archive-keyring"];

/// The packages that are not installed.
pub(super) fn missing(vm: bool) -> Result<Vec<String>> {
    let mut wanted: BTreeSet<&str> = PACKAGES.iter().copied().collect();
    let programs = [("dockerd", "docker.io"), ("bpftool", bpftool_package())];
    wanted.extend(programs.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package));
    if vm {
        wanted.extend(VM_PACKAGES);
        wanted.insert(qemu_package()?);
    }
    if answer("dpkg-query", &["--version"]).is_none() {
        bail!(
            "this is neither Debian nor Ubuntu: install the equivalents of {wanted:?} by hand, then run `cargo build` and `cargo test`"
        );
    }
    let installed = installed(&wanted)?;
    Ok(wanted.into_iter().filter(|package| !installed.contains(*package)).map(str::to_owned).collect())
}

/// Those of the packages that are installed.
fn installed(wanted: &BTreeSet<&str>) -> Result<BTreeSet<String>> {
    // It fails when it does not know one of them, and prints the others.
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${db:Status-Abbrev} ${Package}\n"])
        .args(wanted)
        .output()
        .context("cannot start dpkg-query")?;
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(lines.lines().filter_map(|line| line.strip_prefix("ii ")).map(|name| name.trim().to_owned()).collect())
}

/// Installs them, after an update of the package lists.
pub(super) fn install(names: &[String]) -> Result<()> {
    pass(as_root("apt-get").args(["update", "--quiet"]))?;
    let mut install = as_root("apt-get");
    install.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(names);
    pass(install.env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Whether a program is there; `/usr/sbin` is not on everybody's path.
fn on_path(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"])
        .any(|directory| Path::new(directory).join(program).is_file())
}

/// Debian has a package of its own, older Ubuntus have it among the kernel's tools.
fn bpftool_package() -> &'static str {
    let known = answer("apt-cache", &["show", "--no-all-versions", "bpftool"]);
    if known.is_some_and(|text| text.starts_with("Package:")) { "bpftool" } else { "linux-tools-generic" }
}

/// QEMU for this computer's own architecture.
fn qemu_package() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("qemu-system-x86"),
        "aarch64" => Ok("qemu-system-arm"),
        other => bail!("no VM for {other}"),
    }
}
