//! The layer with everything: PostgreSQL, Redis and the tools.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::Result;

use super::packages::{self, Source};
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
const POSTGRES: &str = include_str!("debian/postgres-entrypoint.sh");
const REDIS: &str = include_str!("debian/redis-entrypoint.sh");
/// What the packages' maintainer scripts would do, as far as it matters.
const FINISH: &str = "cd \"$1\"
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
    [&PACKAGES.join(" "), &packages::recipe(), POSTGRES, REDIS, FINISH].join("\n")
}

/// Unpacks the packages into `root`, adds the entrypoints.
pub(super) fn make(root: &Path) -> Result<()> {
    packages::unpack(root, PACKAGES, Source::Host)?;
    command::run(Command::new("sh").args(["-ec", FINISH, "finish"]).arg(root))?;
    for (name, script) in [("postgres-entrypoint", POSTGRES), ("redis-entrypoint", REDIS)] {
        let path = root.join("usr/local/bin").join(name);
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
