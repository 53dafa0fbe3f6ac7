//! The layer with everything: packages of the host's own distribution, unpacked into a root.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::command;

/// What is wanted; what these depend on comes along.
const PACKAGES: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "bind9-dnsutils",
    "bind9-host",
    "coreutils",
    "curl",
    "dash",
    "findutils",
    "grep",
    "hostname",
    "iproute2",
    "iputils-ping",
    "libc-bin",
    "mawk",
    "ncat",
    "postgresql",
    "procps",
    "psmisc",
    "python3",
    "redis-server",
    "redis-tools",
    "sed",
    "socat",
    "tcpdump",
    "util-linux",
];
/// Documentation, translations, PostgreSQL's JIT compiler (LLVM) and other tests' files: half of the size.
const NOT_WANTED: &str = "usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/lintian usr/share/perl \
    usr/share/bash-completion usr/lib/*/libLLVM* usr/lib/llvm* usr/lib/postgresql/*/lib/llvmjit* \
    usr/lib/postgresql/*/lib/bitcode usr/lib/*/libicudata.a usr/lib/*/gconv usr/lib/*/perl* usr/lib/locale";
const POSTGRES: &str = include_str!("debian/postgres-entrypoint.sh");
const REDIS: &str = include_str!("debian/redis-entrypoint.sh");
/// What the packages' maintainer scripts would do, as far as it matters.
const FINISH: &str = "cd \"$1\"
    rm -rf $2
    cp usr/share/base-passwd/passwd.master etc/passwd
    cp usr/share/base-passwd/group.master etc/group
    for user in postgres:999 redis:998; do
        name=${user%:*} id=${user#*:}
        echo \"$name:x:$id:$id::/var/lib/$name:/bin/sh\" >>etc/passwd
        echo \"$name:x:$id:\" >>etc/group
    done
    mkdir -p data var/lib/postgresql/data tmp run usr/local/bin docker-entrypoint-initdb.d
    chmod 1777 tmp
    rm -rf var/run
    ln -s ../run var/run
    [ -e usr/bin/awk ] || ln -s mawk usr/bin/awk
    for tool in usr/lib/postgresql/*/bin/*; do ln -sf \"/$tool\" usr/local/bin/; done
    ldconfig -r .";

/// Everything the layer is made of, but for the packages' versions.
pub(super) fn recipe() -> String {
    [&PACKAGES.join(" "), NOT_WANTED, POSTGRES, REDIS, FINISH].join("\n")
}

/// Unpacks the packages into `root`, adds the entrypoints.
pub(super) fn make(root: &Path) -> Result<()> {
    let downloads = tempfile::tempdir_in(root)?;
    download(downloads.path())?;
    // Packages ship /bin and /usr/bin alike; tar follows these links.
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(name))?;
        std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name))?;
    }
    let mut packages: Vec<_> = fs::read_dir(downloads.path().join("archives"))?.collect::<Result<_, _>>()?;
    packages.retain(|entry| entry.path().extension().is_some_and(|extension| extension == "deb"));
    ensure!(!packages.is_empty(), "apt-get downloaded nothing");
    for package in &packages {
        command::run(Command::new("dpkg-deb").arg("--extract").arg(package.path()).arg(root))?;
    }
    drop(downloads);
    command::run(Command::new("sh").args(["-ec", FINISH, "finish"]).arg(root).arg(NOT_WANTED))?;
    for (name, script) in [("postgres-entrypoint", POSTGRES), ("redis-entrypoint", REDIS)] {
        let path = root.join("usr/local/bin").join(name);
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Downloads the packages and all they depend on into `directory/archives`.
///
/// APT is told that nothing is installed, so that it gives the whole closure; the host's own state is only read.
fn download(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory.join("archives/partial"))?;
    fs::write(directory.join("status"), "")?;
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--yes", "--quiet", "--download-only", "--no-install-recommends"]);
    for (option, path) in [("Dir::State::status", "status"), ("Dir::Cache::archives", "archives/")] {
        apt.arg("--option").arg(format!("{option}={}", directory.join(path).display()));
    }
    apt.args(["--option", "APT::Sandbox::User=root"]).args(PACKAGES);
    if command::run(&mut apt).is_ok() {
        return Ok(());
    }
    // The package lists may be old, or not there at all.
    command::run(Command::new("apt-get").args(["update", "--quiet"])).context("apt-get needs the network and root")?;
    command::run(&mut apt).map(drop)
}
