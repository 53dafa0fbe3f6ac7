//! What faults cost, a row each. Those of all test programs make one list: `cargo xtask test` prints it.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// The variable with the path of the file that rows are appended to.
pub const LIST: &str = "SKEP_FAULT_LIST";

/// What became of a fault: a row of the list.
#[derive(Debug, Clone)]
pub struct Row {
    /// [`super::Fault::name`].
    pub fault: String,
    /// Requests of the load, from the injection until all was as before.
    pub requests: u64,
    /// How many of them failed.
    pub failures: u64,
    /// From the injection's end until all was as before; none: it never was, in the time it had.
    pub repair: Option<Duration>,
    /// What is not as before.
    pub leaks: Vec<String>,
    /// Answers that nobody should have got.
    pub isolation: u64,
    /// Whether it cost more than it may.
    pub broken: bool,
}

impl Row {
    /// Appends it to the list, if there is one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn enter(&self) -> Result<()> {
        let Some(path) = std::env::var_os(LIST) else { return Ok(()) };
        let write = |path: &Path| writeln!(File::options().create(true).append(true).open(path)?, "{self}");
        write(path.as_ref()).with_context(|| Path::new(&path).display().to_string())
    }
}

/// The heading of the list.
pub struct Heading;

impl fmt::Display for Heading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<56} {:>9} {:>9} {:>9} {:>6}", "fault", "requests", "failures", "repair", "leaks")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, requests, failures, repair, leaks, isolation, broken } = self;
        let repair = repair.map_or("never".to_owned(), |repair| format!("{:.1} s", repair.as_secs_f64()));
        write!(f, "{fault:<56} {requests:>9} {failures:>9} {repair:>9} {:>6}", leaks.len())?;
        if *isolation > 0 {
            write!(f, "  {isolation} ISOLATION FAILURES")?;
        }
        if *broken {
            write!(f, "  FAILED")?;
        }
        leaks.iter().try_for_each(|leak| write!(f, "\n    {leak}"))
    }
}
