//! Waiting for a condition.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// How long to leave a foreign process alone between two looks.
const INTERVAL: Duration = Duration::from_millis(10);

/// Asks `condition` again and again until it gives a value; an error after `deadline`.
///
/// For what has no event to await: a foreign process (dockerd, dnsmasq, a database) that becomes
/// ready without telling anybody. Where there is an event, await it instead.
///
/// # Errors
/// Names `what` and the last error of `condition`, if it gave any.
pub fn wait_for<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        let last = condition();
        match last {
            Ok(Some(value)) => return Ok(value),
            Ok(None) if Instant::now() >= end => bail!("{what}: not so after {deadline:?}"),
            Err(error) if Instant::now() >= end => {
                return Err(error.context(format!("{what}: not so after {deadline:?}")));
            }
            _ => thread::sleep(INTERVAL),
        }
    }
}
