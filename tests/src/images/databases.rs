//! The layer with servers of databases, each as its official image starts it, and with their clients. Of one release of
//! Debian, whichever this computer's is: the first that has Valkey.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::Result;
use serde_json::{Value, json};

use super::packages::{self, Source};
use crate::command;

/// What is wanted; what these depend on comes along.
const PACKAGES: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "hostname",
    "libc-bin",
    "mariadb-client",
    "mariadb-server",
    "mawk",
    "postgresql",
    "procps",
    "python3",
    "redis-server",
    "redis-tools",
    "sed",
    "util-linux",
    "valkey-server",
    "valkey-tools",
];
const POSTGRES: &str = include_str!("debian/postgres-entrypoint.sh");
const MARIADB: &str = include_str!("databases/mariadb-entrypoint.sh");
const CACHE: &str = include_str!("databases/cache-entrypoint.sh");
/// What the packages' maintainer scripts would do, as far as it matters.
const FINISH: &str = "cd \"$1\"
    cp usr/share/base-passwd/passwd.master etc/passwd
    cp usr/share/base-passwd/group.master etc/group
    for user in postgres:999 redis:998 valkey:997 mysql:996; do
        name=${user%:*} id=${user#*:}
        echo \"$name:x:$id:$id::/var/lib/$name:/bin/sh\" >>etc/passwd
        echo \"$name:x:$id:\" >>etc/group
    done
    mkdir -p data var/lib/postgresql/data var/lib/mysql tmp run/mysqld usr/local/bin docker-entrypoint-initdb.d
    chmod 1777 tmp
    rm -rf var/run var/log/mysql
    ln -s ../run var/run
    [ -e usr/bin/awk ] || ln -s mawk usr/bin/awk
    for tool in usr/lib/postgresql/*/bin/*; do ln -sf \"/$tool\" usr/local/bin/; done
    # The official image has neither Debian's address nor its log.
    rm -f etc/mysql/mariadb.conf.d/*-server.cnf etc/mysql/debian.cnf
    ln -sf mariadb.cnf etc/mysql/my.cnf
    ldconfig -r .";
/// What each image has in its path before everything else.
const ENTRYPOINT: &str = "docker-entrypoint.sh";

/// A server that is an image of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Database {
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    Mariadb,
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
}

impl Database {
    /// All.
    pub const ALL: [Self; 4] = [Self::Postgres, Self::Mariadb, Self::Redis, Self::Valkey];

    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::Postgres => "postgres:17",
            Self::Mariadb => "mariadb:11",
            Self::Redis => "redis:8",
            Self::Valkey => "valkey/valkey:8",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mariadb => "mariadb",
            Self::Redis => "redis",
            Self::Valkey => "valkey",
        }
    }

    fn entrypoint(self) -> String {
        match self {
            Self::Postgres => POSTGRES.to_owned(),
            Self::Mariadb => MARIADB.to_owned(),
            Self::Redis | Self::Valkey => CACHE.replace("@name@", self.name()),
        }
    }

    /// The configuration of its image, on top of the one of [`super::Image::Clients`].
    pub(super) fn runtime(self, path: &str) -> Value {
        let path = path.replacen("PATH=", &format!("PATH=/opt/{}:", self.name()), 1);
        let common = |command: &str, port: &str, data: &str| {
            json!({
                "Env": [path],
                "Entrypoint": [ENTRYPOINT],
                "Cmd": [command],
                "ExposedPorts": { port: {} },
                "Volumes": { data: {} },
            })
        };
        match self {
            Self::Postgres => {
                let mut runtime = common("postgres", "5432/tcp", "/var/lib/postgresql/data");
                runtime["StopSignal"] = "SIGINT".into();
                runtime
            }
            Self::Mariadb => common("mariadbd", "3306/tcp", "/var/lib/mysql"),
            Self::Redis | Self::Valkey => {
                let mut runtime = common(&format!("{}-server", self.name()), "6379/tcp", "/data");
                runtime["WorkingDir"] = "/data".into();
                runtime
            }
        }
    }
}

/// Everything the layer is made of, but for the packages' versions.
pub(super) fn recipe() -> String {
    [&PACKAGES.join(" "), &packages::recipe(), POSTGRES, MARIADB, CACHE, FINISH].join("\n")
}

/// Unpacks the packages into `root`, adds the entrypoints.
pub(super) fn make(root: &Path) -> Result<()> {
    packages::unpack(root, PACKAGES, Source::Release("trixie"))?;
    command::run(Command::new("sh").args(["-ec", FINISH, "finish"]).arg(root))?;
    for database in Database::ALL {
        let directory = root.join("opt").join(database.name());
        fs::create_dir_all(&directory)?;
        let path = directory.join(ENTRYPOINT);
        fs::write(&path, database.entrypoint())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
