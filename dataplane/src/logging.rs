//! Log lines on standard error: fields, then a sentence.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

use crate::config::Config;

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "--log {filter:?}: {source}: give a level (error, warn, info, debug, trace) or directives such as `info,dataplane::agent=debug`"
)]
pub struct LogError {
    filter: String,
    #[source]
    source: ParseError,
}

/// A bare level is about Skep's own lines: the libraries' at `debug` hold whole answers of Docker, and with them
/// people's variables and passwords. Who wants these names the library. WireGuard's says every few seconds of each peer
/// that does not answer that it does not.
fn directives(filter: &str) -> String {
    match filter.trim().parse::<LevelFilter>() {
        Ok(level) => format!("{},defguard_boringtun=off,dataplane={level},skepd={level}", level.min(LevelFilter::WARN)),
        Err(_) => filter.to_owned(),
    }
}

/// Sets logging up for the whole process.
///
/// # Errors
/// [`LogError`] names the filter.
pub fn init(config: &Config) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(directives(&config.log));
    let filter = filter.map_err(|source| LogError { filter: config.log.clone(), source })?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call, in one test after another, finds the first one's and leaves it.
    let _set = if config.log_json {
        subscriber.json().flatten_event(true).try_init()
    } else {
        let color = std::io::IsTerminal::is_terminal(&std::io::stderr());
        subscriber.with_ansi(color).with_target(false).try_init()
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_is_about_skep_alone() {
        assert_eq!(directives("debug"), "warn,defguard_boringtun=off,dataplane=debug,skepd=debug");
        assert_eq!(directives("error"), "error,defguard_boringtun=off,dataplane=error,skepd=error");
        assert_eq!(directives("info,bollard=debug"), "info,bollard=debug");
    }
}
