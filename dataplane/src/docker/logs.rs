//! What containers have said and say, line by line.

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use futures_util::{Stream, StreamExt as _};
use serde::{Deserialize, Serialize};

use super::Docker;

/// Which lines of a container's output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Also those that come from now on.
    pub follow: bool,
    /// Only so many of the last ones that there are.
    pub tail: Option<u32>,
    /// Only those since then, in seconds since the epoch.
    pub since: Option<u64>,
}

/// A line of a container's output; of a long one, a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When the engine read it: RFC 3339, UTC, nanoseconds, always as long, so that order of text is order of time.
    pub time: String,
    /// On standard error.
    pub stderr: bool,
    /// Without its end; what is no UTF-8 is replaced.
    pub text: String,
}

impl Docker {
    /// Lines as they were said. Ends with what there is, or, where it is followed, with the container's process, even if another
    /// one is started in it; also when the engine can't tell, as with log drivers that keep nothing.
    pub fn logs(&self, container: String, query: LogQuery) -> impl Stream<Item = LogLine> + Send + use<> {
        let docker = self.clone();
        let lines = async move {
            let client = docker.client().await.ok()?;
            let options = LogsOptions {
                follow: query.follow,
                stdout: true,
                stderr: true,
                since: query.since.and_then(|since| i32::try_from(since).ok()).unwrap_or(0),
                timestamps: true,
                tail: query.tail.map_or_else(|| "all".to_owned(), |tail| tail.to_string()),
                ..LogsOptions::default()
            };
            let output = client.logs(&container, Some(options));
            let said = output.take_while(|part| std::future::ready(part.is_ok()));
            Some(said.filter_map(|part| std::future::ready(part.ok().as_ref().and_then(line))))
        };
        futures_util::stream::once(lines).filter_map(std::future::ready).flatten()
    }
}

/// The engine puts the time in front of each line.
fn line(part: &LogOutput) -> Option<LogLine> {
    let (stderr, message) = match part {
        LogOutput::StdErr { message } => (true, message),
        LogOutput::StdOut { message } | LogOutput::Console { message } => (false, message),
        LogOutput::StdIn { .. } => return None,
    };
    let text = String::from_utf8_lossy(message);
    let (time, text) = text.split_once(' ')?;
    let text = text.trim_end_matches(['\n', '\r']).to_owned();
    Some(LogLine { time: time.to_owned(), stderr, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_time_in_front() {
        let told = |text: &str| line(&LogOutput::StdErr { message: text.to_owned().into() });
        let expected = LogLine { time: "2026-01-02T03:04:05.000000006Z".into(), stderr: true, text: "a b".into() };
        assert_eq!(told("2026-01-02T03:04:05.000000006Z a b\r\n"), Some(expected));
        assert_eq!(told("2026-01-02T03:04:05.000000006Z \n").map(|line| line.text), Some(String::new()));
        assert_eq!(told("nothing"), None);
    }
}
