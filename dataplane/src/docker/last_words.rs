//! What a container said last before it failed, without the secrets it was given.

use std::collections::BTreeSet;
use std::time::Duration;

use bollard::query_parameters::LogsOptions;
use futures_util::TryStreamExt as _;

use super::Docker;

/// Lines.
const LINES: &str = "3";
/// Octets that are looked at; a line may be of any length.
const OUTPUT_MAX: usize = 16 << 10;
/// Characters that people are told.
const TOLD_MAX: usize = 300;
/// The engine reads them from a file.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Parts of the names of variables whose values are nobody's business.
const SECRET: [&str; 11] =
    ["PASS", "PWD", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "AUTH", "URL", "URI", "DSN", "PRIVATE"];
/// Anything shorter would be found in any text.
const SECRET_MIN: usize = 4;
const MASK: &str = "***";

impl Docker {
    /// The last lines of a container's output, in one; `None` when it said nothing, or the engine cannot tell. What
    /// secret `variables` (`NAME=value`) say is left out.
    pub(super) async fn last_words(&self, container: &str, variables: &[String]) -> Option<String> {
        let options = LogsOptions { stdout: true, stderr: true, tail: LINES.to_owned(), ..LogsOptions::default() };
        let client = self.client().await.ok()?;
        let read = async {
            let mut output = client.logs(container, Some(options));
            let mut said = Vec::new();
            while let Ok(Some(part)) = output.try_next().await {
                let part = part.into_bytes();
                said.extend_from_slice(&part[..part.len().min(OUTPUT_MAX - said.len())]);
            }
            said
        };
        let said = tokio::time::timeout(TIMEOUT, read).await.ok()?;
        told(&masked(&String::from_utf8_lossy(&said), variables))
    }
}

/// In one line, without what a terminal would obey, and not too long: the end matters most.
fn told(text: &str) -> Option<String> {
    let clean = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned();
    let lines: Vec<String> = text.lines().map(clean).filter(|line| !line.is_empty()).collect();
    let joined = lines.join(" | ");
    let cut = joined.char_indices().rev().nth(TOLD_MAX - 1).map_or(0, |(at, _)| at);
    (!joined.is_empty()).then(|| if cut > 0 { format!("…{}", &joined[cut..]) } else { joined.clone() })
}

/// Without the values of secret variables, and without the passwords in URLs.
fn masked(text: &str, variables: &[String]) -> String {
    let mut secrets = BTreeSet::new();
    for (name, value) in variables.iter().filter_map(|variable| variable.split_once('=')) {
        let name = name.to_ascii_uppercase();
        if SECRET.iter().any(|part| name.contains(part)) {
            secrets.insert(value);
            secrets.extend(password(value));
        }
    }
    // The longest first: a part of a value must not be masked before the whole.
    let mut secrets: Vec<&str> = secrets.into_iter().filter(|secret| secret.len() >= SECRET_MIN).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret, MASK))
}

/// That of a URL.
fn password(url: &str) -> Option<&str> {
    let (_, behind) = url.split_once("://")?;
    let authority = behind.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    Some(user.split_once(':')?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_told_in_one_line_that_no_terminal_obeys() {
        assert_eq!(told("starting\n\n  cannot \x1b[31mconnect\x07 \r\n"), Some("starting | cannot [31mconnect".into()));
        assert_eq!(told(" \n\t\n"), None);
        let long = told(&"é".repeat(1000)).unwrap();
        assert_eq!(long, format!("…{}", "é".repeat(TOLD_MAX)));
        let exact = "x".repeat(TOLD_MAX);
        assert_eq!(told(&exact), Some(exact));
    }

    #[test]
    fn secrets_are_not_repeated() {
        let variables = [
            "PATH=/usr/bin",
            "DATABASE_URL=postgres://app:s3cr3t-word@db.internal:5432/app",
            "API_TOKEN=abcdef",
            "MODE=production",
            "EMPTY_KEY=",
        ];
        let variables: Vec<String> = variables.iter().map(ToString::to_string).collect();
        let cases = [
            ("cannot open postgres://app:s3cr3t-word@db.internal:5432/app", "cannot open ***"),
            ("password s3cr3t-word is refused, in production", "password *** is refused, in production"),
            ("token=abcdef; PATH is /usr/bin", "token=***; PATH is /usr/bin"),
        ];
        for (said, expected) in cases {
            assert_eq!(masked(said, &variables), expected);
        }
    }
}
