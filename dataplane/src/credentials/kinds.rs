//! What each kind is to its clients, and the variables that its image reads.

use crate::model::Kind;

/// Names of variables that an image reads; the first of each is what Skep writes.
pub(super) struct Names {
    pub(super) user: &'static [&'static str],
    pub(super) password: &'static [&'static str],
    pub(super) database: &'static [&'static str],
    /// The administrator's password.
    pub(super) root: &'static [&'static str],
    /// In place of a password.
    pub(super) password_otherwise: &'static [&'static str],
    /// In place of the administrator's.
    pub(super) root_otherwise: &'static [&'static str],
    /// The administrator needs none.
    pub(super) root_open: &'static [&'static str],
}

const NONE: Names = Names {
    user: &[],
    password: &[],
    database: &[],
    root: &[],
    password_otherwise: &[],
    root_otherwise: &[],
    root_open: &[],
};

const POSTGRES: Names =
    Names { user: &["POSTGRES_USER"], password: &["POSTGRES_PASSWORD"], database: &["POSTGRES_DB"], ..NONE };

const MYSQL: Names = Names {
    user: &["MYSQL_USER"],
    password: &["MYSQL_PASSWORD"],
    database: &["MYSQL_DATABASE"],
    root: &["MYSQL_ROOT_PASSWORD"],
    root_otherwise: &["MYSQL_RANDOM_ROOT_PASSWORD"],
    root_open: &["MYSQL_ALLOW_EMPTY_PASSWORD"],
    ..NONE
};

const MARIADB: Names = Names {
    user: &["MARIADB_USER", "MYSQL_USER"],
    password: &["MARIADB_PASSWORD", "MYSQL_PASSWORD"],
    database: &["MARIADB_DATABASE", "MYSQL_DATABASE"],
    root: &["MARIADB_ROOT_PASSWORD", "MYSQL_ROOT_PASSWORD"],
    password_otherwise: &["MARIADB_PASSWORD_HASH"],
    root_otherwise: &["MARIADB_ROOT_PASSWORD_HASH", "MARIADB_RANDOM_ROOT_PASSWORD", "MYSQL_RANDOM_ROOT_PASSWORD"],
    root_open: &["MARIADB_ALLOW_EMPTY_ROOT_PASSWORD", "MYSQL_ALLOW_EMPTY_PASSWORD"],
};

const MONGO: Names = Names {
    user: &["MONGO_INITDB_ROOT_USERNAME"],
    password: &["MONGO_INITDB_ROOT_PASSWORD"],
    database: &["MONGO_INITDB_DATABASE"],
    ..NONE
};

impl Kind {
    /// The variables of its image.
    pub(super) fn names(self) -> &'static Names {
        match self {
            Self::Postgres => &POSTGRES,
            Self::Mysql => &MYSQL,
            Self::Mariadb => &MARIADB,
            Self::Mongo => &MONGO,
            Self::Redis | Self::Valkey => &NONE,
        }
    }

    /// The variable in which clients expect its URL.
    pub(super) fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "DATABASE_URL",
            Self::Mysql | Self::Mariadb => "MYSQL_URL",
            Self::Mongo => "MONGODB_URL",
            Self::Redis | Self::Valkey => "REDIS_URL",
        }
    }

    /// Names of services that say what they are.
    pub(super) fn usual_names(self) -> &'static [&'static str] {
        match self {
            Self::Postgres => &["postgres", "postgresql"],
            Self::Mysql | Self::Mariadb => &["mysql", "mariadb"],
            Self::Mongo => &["mongo", "mongodb"],
            Self::Redis | Self::Valkey => &["redis", "valkey"],
        }
    }

    /// What its URLs begin with.
    pub(super) fn scheme(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Mysql | Self::Mariadb => "mysql",
            Self::Mongo => "mongodb",
            // What clients of either understand.
            Self::Redis | Self::Valkey => "redis",
        }
    }

    /// Where its image keeps data.
    pub(super) fn data(self) -> &'static str {
        match self {
            Self::Postgres => "/var/lib/postgresql",
            Self::Mysql | Self::Mariadb => "/var/lib/mysql",
            Self::Mongo => "/data/db",
            Self::Redis | Self::Valkey => "/data",
        }
    }
}
