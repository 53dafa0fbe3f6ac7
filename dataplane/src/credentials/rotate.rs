//! A database is told its new password: what to run in its container. No password is on a command line, which every
//! process may read, nor in the database's log, as far as it can be kept out of there.

use std::collections::BTreeMap;

use super::Access;
use super::own::ROOT;
use crate::model::{Kind, Secret};

/// Longest password that every one of the databases takes, in characters.
const PASSWORD_MAX: usize = 128;

/// What MongoDB's shell says at the end. It is put together there, so that no echo of the script says it.
const DONE: &str = "skep-changed";

/// Why a password cannot be changed so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    /// Nobody logs in.
    #[error("the database asks for no password: there is none to change")]
    Open,
    /// It is an account of several hosts, and the one that everything else depends on.
    #[error("the database is used by its administrator: change that password there, and say it in the variables")]
    Administrator,
    /// Not every database takes it.
    #[error(
        "the password is empty, longer than {PASSWORD_MAX} characters, or has control characters in it: choose another one"
    )]
    Password,
}

/// A command to run in the database's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The command; nothing in it is secret.
    pub argv: Vec<String>,
    /// Variables that it gets beside the container's.
    pub environment: BTreeMap<&'static str, Secret>,
    /// What it reads.
    pub stdin: Secret,
    /// What it says if it succeeded, where its exit status does not tell.
    says: Option<&'static str>,
}

impl Statement {
    /// Whether it has done its work, by its exit status and what it wrote to its standard output.
    pub fn succeeded(&self, status: i64, stdout: &str) -> bool {
        status == 0 && self.says.is_none_or(|says| stdout.lines().any(|line| line.trim_end().ends_with(says)))
    }
}

impl Access {
    /// Gives whom it logs in as the password `new`. Done twice, the second time with an [`Access`] of the new password,
    /// it changes nothing.
    ///
    /// # Errors
    /// [`RotateError`].
    pub fn change(&self, new: &Secret) -> Result<Statement, RotateError> {
        let Some(old) = &self.password else { return Err(RotateError::Open) };
        let length = new.expose().chars().count();
        if length == 0 || length > PASSWORD_MAX || new.expose().contains(char::is_control) {
            return Err(RotateError::Password);
        }
        let user = self.user.as_deref();
        match (self.kind, user) {
            (Kind::Redis | Kind::Valkey, _) => Ok(self.cache(old, new)),
            (_, None) => Err(RotateError::Open),
            (Kind::Postgres, Some(user)) => Ok(self.postgres(user, old, new)),
            (Kind::Mysql | Kind::Mariadb, Some(ROOT)) => Err(RotateError::Administrator),
            // Who has logged in may change the own password by these, and only by these, without any privilege.
            (Kind::Mysql, Some(user)) => Ok(mysql(user, old, new, "ALTER USER USER() IDENTIFIED BY ", "")),
            (Kind::Mariadb, Some(user)) => Ok(mysql(user, old, new, "SET PASSWORD = PASSWORD(", ")")),
            (Kind::Mongo, Some(user)) => Ok(self.mongo(user, old, new)),
        }
    }

    fn postgres(&self, user: &str, old: &Secret, new: &Secret) -> Statement {
        let database = self.database.as_deref().unwrap_or(user);
        // Whether it may say what is logged depends on the role; the rest must succeed.
        let script = format!(
            "\\set ON_ERROR_STOP off\nSET log_statement = 'none';\nSET log_min_duration_statement = -1;\n\
            SET log_min_error_statement = 'panic';\n\\set ON_ERROR_STOP on\nALTER ROLE {} PASSWORD {};\n",
            postgres_name(user),
            postgres_text(new.expose()),
        );
        let port = self.port.to_string();
        let argv = [
            "psql",
            "--no-psqlrc",
            "--quiet",
            "--no-password",
            "--port",
            &port,
            "--username",
            user,
            "--dbname",
            database,
        ];
        let environment = [("PGPASSWORD", old.clone()), ("PGCLIENTENCODING", Secret::new("UTF8"))];
        statement(&argv, environment, script, None)
    }

    fn mongo(&self, user: &str, old: &Secret, new: &Secret) -> Statement {
        let [user, old, new] = [user, old.expose(), new.expose()].map(javascript_text);
        let (head, tail) = DONE.split_at(DONE.len() / 2);
        // One line: the shell runs each by itself. Its exit status is 0 whatever happens to one that it reads.
        let script = format!(
            "try {{ const d = db.getSiblingDB(\"admin\"); if (!d.auth({user}, {old})) {{ throw new Error(); }} \
            d.updateUser({user}, {{ pwd: {new} }}); print(\"{head}\" + \"{tail}\"); }} catch (e) {{ quit(1); }}\n"
        );
        let port = self.port.to_string();
        let argv = either(["mongosh", "mongo"], &["--quiet", "--norc", "--port", &port, "admin"]);
        statement(&argv, [], script, Some(DONE))
    }

    fn cache(&self, old: &Secret, new: &Secret) -> Statement {
        let port = self.port.to_string();
        // `-x`: the last argument is what it reads, as it is.
        let words = ["-p", &port, "--no-auth-warning", "-x", "CONFIG", "SET", "requirepass"];
        let programs = match self.kind {
            Kind::Valkey => ["valkey-cli", "redis-cli"],
            _ => ["redis-cli", "valkey-cli"],
        };
        statement(&either(programs, &words), [("REDISCLI_AUTH", old.clone())], new.expose().to_owned(), Some("OK"))
    }
}

fn mysql(user: &str, old: &Secret, new: &Secret, before: &str, after: &str) -> Statement {
    // Without a mode, a backslash escapes.
    let script = format!("SET SESSION sql_mode = '';\n{before}{}{after};\n", mysql_text(new.expose()));
    let words = ["--batch", "--protocol=socket", "--default-character-set=utf8mb4", "--user", user];
    statement(&either(["mariadb", "mysql"], &words), [("MYSQL_PWD", old.clone())], script, None)
}

fn statement<const N: usize>(
    argv: &[&str],
    environment: [(&'static str, Secret); N],
    stdin: String,
    says: Option<&'static str>,
) -> Statement {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    Statement { argv, environment: environment.into(), stdin: Secret::new(stdin), says }
}

/// Runs whichever of two programs is there.
fn either<'a>(programs: [&'static str; 2], words: &[&'a str]) -> Vec<&'a str> {
    let [first, second] = programs;
    let script = r#"first=$1 second=$2; shift 2; exec "$(command -v "$first" || echo "$second")" "$@""#;
    ["sh", "-c", script, "sh", first, second].into_iter().chain(words.iter().copied()).collect()
}

/// A name in PostgreSQL's SQL.
fn postgres_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in PostgreSQL's SQL, whatever `standard_conforming_strings` is.
fn postgres_text(text: &str) -> String {
    format!("E'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

/// A text in MySQL's SQL without NO_BACKSLASH_ESCAPES.
fn mysql_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

/// A text in JavaScript: JSON's are some (ECMA-262 since its edition of 2019).
fn javascript_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [Kind; 6] = [Kind::Postgres, Kind::Mysql, Kind::Mariadb, Kind::Mongo, Kind::Redis, Kind::Valkey];

    fn access(kind: Kind) -> Access {
        let password = Some(Secret::new("the-old-one"));
        Access { kind, port: kind.port(), user: Some("app_1".into()), password, database: Some("app".into()) }
    }

    fn change(kind: Kind, new: &str) -> Statement {
        access(kind).change(&Secret::new(new)).unwrap()
    }

    #[test]
    fn each_database_is_told_in_its_own_words() {
        let postgres = change(Kind::Postgres, "it's \\ \"new\"");
        assert!(postgres.stdin.expose().ends_with("\nALTER ROLE \"app_1\" PASSWORD E'it''s \\\\ \"new\"';\n"));
        assert_eq!(postgres.argv[0], "psql");
        assert_eq!(postgres.environment["PGPASSWORD"].expose(), "the-old-one");
        for (kind, statement) in [
            (Kind::Mysql, "ALTER USER USER() IDENTIFIED BY 'it''s \\\\ \"new\"';\n"),
            (Kind::Mariadb, "SET PASSWORD = PASSWORD('it''s \\\\ \"new\"');\n"),
        ] {
            let mysql = change(kind, "it's \\ \"new\"");
            assert!(mysql.stdin.expose().ends_with(statement), "{kind:?}");
            assert_eq!(mysql.environment["MYSQL_PWD"].expose(), "the-old-one");
        }
        let mongo = change(Kind::Mongo, "it's \\ \"new\"");
        assert!(mongo.stdin.expose().contains(r#"d.auth("app_1", "the-old-one")"#));
        assert!(mongo.stdin.expose().contains(r#"d.updateUser("app_1", { pwd: "it's \\ \"new\"" })"#));
        assert_eq!(mongo.stdin.expose().lines().count(), 1);
        let redis = change(Kind::Redis, "it's \\ \"new\"");
        assert_eq!(redis.stdin.expose(), "it's \\ \"new\"");
        assert!(redis.argv.ends_with(&["-x", "CONFIG", "SET", "requirepass"].map(str::to_owned)));
        assert_eq!(redis.environment["REDISCLI_AUTH"].expose(), "the-old-one");
    }

    #[test]
    fn success_is_what_the_program_says_where_its_status_does_not_tell() {
        let postgres = change(Kind::Postgres, "x");
        assert!(postgres.succeeded(0, "") && !postgres.succeeded(3, ""));
        let mongo = change(Kind::Mongo, "x");
        assert!(mongo.succeeded(0, "admin> skep-changed\n") && mongo.succeeded(0, "skep-changed"));
        assert!(!mongo.succeeded(0, mongo.stdin.expose()), "an echo of the script is no success");
        assert!(!mongo.succeeded(0, "") && !mongo.succeeded(1, "skep-changed\n"));
        let redis = change(Kind::Redis, "x");
        assert!(redis.succeeded(0, "OK\n") && !redis.succeeded(0, "NOAUTH Authentication required.\n"));
    }

    #[test]
    fn what_cannot_be_a_password_is_refused_and_so_is_a_database_without_one() {
        let long = "x".repeat(129);
        for kind in KINDS {
            for new in ["", "a\nb", "a\0b", long.as_str()] {
                assert_eq!(access(kind).change(&Secret::new(new)), Err(RotateError::Password), "{new:?}");
            }
            assert!(access(kind).change(&Secret::new("ä".repeat(128))).is_ok());
            let open = Access { password: None, ..access(kind) };
            assert_eq!(open.change(&Secret::new("x")), Err(RotateError::Open));
        }
        let root = Access { user: Some("root".into()), ..access(Kind::Mariadb) };
        assert_eq!(root.change(&Secret::new("x")), Err(RotateError::Administrator));
    }

    #[test]
    fn the_program_that_is_there_is_run() {
        let run = |programs: [&'static str; 2]| {
            let argv = either(programs, &["a b", "$c"]);
            let output = std::process::Command::new(argv[0]).args(&argv[1..]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(run(["echo", "no-such-program"]), "a b $c\n");
        assert_eq!(run(["no-such-program", "echo"]), "a b $c\n");
    }

    /// What a database makes of a literal between quotes in which `\` escapes and a quote is doubled.
    fn read(literal: &str) -> String {
        let inner = literal.strip_prefix('\'').unwrap().strip_suffix('\'').unwrap();
        let mut text = String::new();
        let mut characters = inner.chars();
        while let Some(character) = characters.next() {
            text.push(match character {
                '\\' => characters.next().unwrap(),
                '\'' => {
                    assert_eq!(characters.next(), Some('\''), "the literal ends in the middle: {literal}");
                    '\''
                }
                other => other,
            });
        }
        text
    }

    proptest! {
        #[test]
        fn a_password_stays_inside_of_its_quotes_and_off_the_command_line(
            new in r#"[a-z'"\\;$`{}%:@ -]{1,40}|[^\p{C}]{1,40}"#,
        ) {
            prop_assert_eq!(&read(postgres_text(&new).strip_prefix('E').unwrap()), &new);
            prop_assert_eq!(&read(&mysql_text(&new)), &new);
            prop_assert_eq!(&serde_json::from_str::<String>(&javascript_text(&new)).unwrap(), &new);
            let secret = format!("9F{new}F9");
            for kind in KINDS {
                let statement = change(kind, &secret);
                prop_assert!(!statement.argv.iter().any(|word| word.contains(&secret) || word.contains("the-old-one")));
                let shown = format!("{statement:?}");
                prop_assert!(!shown.contains(&secret) && !shown.contains("the-old-one"), "{}", shown);
            }
        }
    }
}
