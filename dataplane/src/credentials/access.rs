//! What a client of a database needs to know, and the URL that says it.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::model::{Kind, Secret};

/// All but RFC 3986's unreserved characters (section 2.3): what no reader of a URL, however simple, takes for a delimiter.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Whom a cache with one password for all knows (ACL, since Redis 6). `redis-cli` takes a URL without a name for one of
/// somebody whose name is empty, who is not let in.
const EVERYBODY: &str = "default";

/// How a database is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// What it is.
    pub kind: Kind,
    /// Where it listens.
    pub port: u16,
    /// Whom to log in as; [`None`]: it asks for nobody.
    pub user: Option<String>,
    /// With what; [`None`]: it asks for nothing.
    pub password: Option<Secret>,
    /// What is in it for whom logs in; [`None`]: nothing in particular.
    pub database: Option<String>,
}

impl Access {
    /// The URL for clients that know it as `host`.
    pub fn url(&self, host: &str) -> Secret {
        let encoded = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
        let mut url = format!("{}://", self.kind.scheme());
        let everybody = self.kind.cache_server().and(self.password.as_ref()).map(|_| EVERYBODY);
        url += &self.user.as_deref().or(everybody).map(encoded).unwrap_or_default();
        if let Some(password) = &self.password {
            url.push(':');
            url += &encoded(password.expose());
        }
        if self.user.is_some() || self.password.is_some() {
            url.push('@');
        }
        // Writing to a String never fails.
        let _infallible = write!(url, "{host}:{}", self.port);
        if let Some(database) = &self.database {
            url.push('/');
            url += &encoded(database);
        }
        if self.kind == Kind::Mongo && self.user.is_some() {
            // The image makes its user in `admin`, whatever database is meant. A query follows a path (RFC 3986 allows
            // none to be there, MongoDB's drivers do not).
            url += if self.database.is_none() { "/?authSource=admin" } else { "?authSource=admin" };
        }
        Secret::new(url)
    }
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    fn access(kind: Kind, user: Option<&str>, password: Option<&str>, database: Option<&str>) -> Access {
        let (user, database) = (user.map(str::to_owned), database.map(str::to_owned));
        Access { kind, port: kind.port(), user, password: password.map(Secret::new), database }
    }

    #[test]
    fn urls_are_what_people_know() {
        let cases = [
            (access(Kind::Postgres, Some("u"), Some("p"), Some("d")), "postgresql://u:p@db.internal:5432/d"),
            (access(Kind::Postgres, Some("u"), None, Some("d")), "postgresql://u@db.internal:5432/d"),
            (access(Kind::Mariadb, Some("u"), Some("p"), Some("d")), "mysql://u:p@db.internal:3306/d"),
            (access(Kind::Mysql, Some("root"), Some("p"), None), "mysql://root:p@db.internal:3306"),
            (
                access(Kind::Mongo, Some("u"), Some("p"), Some("d")),
                "mongodb://u:p@db.internal:27017/d?authSource=admin",
            ),
            (access(Kind::Mongo, Some("u"), Some("p"), None), "mongodb://u:p@db.internal:27017/?authSource=admin"),
            (access(Kind::Mongo, None, None, None), "mongodb://db.internal:27017"),
            (access(Kind::Redis, None, None, None), "redis://db.internal:6379"),
            (access(Kind::Valkey, None, Some("p"), None), "redis://default:p@db.internal:6379"),
            (
                access(Kind::Postgres, Some("a@b"), Some("p:/?#%"), Some("x y")),
                "postgresql://a%40b:p%3A%2F%3F%23%25@db.internal:5432/x%20y",
            ),
        ];
        for (access, url) in cases {
            assert_eq!(access.url("db.internal").expose(), url);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_in_a_url_comes_out_of_it_again(
            user in "[^\0]{1,20}",
            password in "[^\0]{0,40}",
            database in "[^\0]{1,20}",
            host in "[a-z][a-z0-9-]{0,10}[a-z0-9]",
            kind in prop::sample::select(vec![Kind::Postgres, Kind::Mysql, Kind::Mariadb, Kind::Mongo, Kind::Redis]),
        ) {
            // Dots alone are parts of a path to every reader of URLs, however they are written, and no database's name.
            prop_assume!(database != "." && database != "..");
            let text = access(kind, Some(&user), Some(&password), Some(&database)).url(&format!("{host}.internal"));
            let url = Url::parse(text.expose()).unwrap();
            let decoded = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
            prop_assert_eq!(decoded(url.username()), user);
            prop_assert_eq!(decoded(url.password().unwrap_or_default()), password);
            prop_assert_eq!(decoded(url.path().strip_prefix('/').unwrap()), database);
            prop_assert_eq!(url.host_str().unwrap(), format!("{host}.internal"));
            prop_assert_eq!(url.port(), Some(kind.port()));
            prop_assert_eq!(url.fragment(), None);
            prop_assert_eq!(url.query(), (kind == Kind::Mongo).then_some("authSource=admin"));
        }
    }
}
