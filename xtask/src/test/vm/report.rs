//! The tables: tests by kernel, and the verifier's work by program and kernel.

use std::fmt;

use super::{TESTS, guest::Run};

/// Prints as two tables.
#[derive(Debug)]
pub(super) struct Report<'a>(pub(super) &'a [Run]);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<22}", "kernel")?;
        for run in self.0 {
            write!(f, " {:>22}", run.release)?;
        }
        for test in TESTS {
            write!(f, "\n{:<22}", format!("tests: {test}"))?;
            for run in self.0 {
                write!(f, " {:>22}", outcome(run, test))?;
            }
        }
        write!(f, "\n{:<22}", "seconds")?;
        for run in self.0 {
            write!(f, " {:>22}", run.took.as_secs())?;
        }
        write!(f, "\n\nVerified instructions of each program, which loads and attaches:")?;
        let names = self.0.iter().map(|run| &run.programs).max_by_key(|programs| programs.len());
        for (program, _) in names.into_iter().flatten() {
            write!(f, "\n{program:<22}")?;
            for run in self.0 {
                let count = run.programs.iter().find(|(name, _)| name == program);
                write!(f, " {:>22}", count.map_or_else(|| "-".to_owned(), |(_, count)| count.to_string()))?;
            }
        }
        writeln!(f)
    }
}

/// `12 passed`, or what else became of it.
fn outcome(run: &Run, test: &str) -> String {
    match run.tests.iter().find(|(name, _)| name == test) {
        None => "not begun".to_owned(),
        Some((_, outcome)) if outcome.success => format!("{} passed", outcome.passed),
        Some((_, outcome)) if outcome.failed > 0 => format!("{} passed, {} FAILED", outcome.passed, outcome.failed),
        Some(_) => "did not end".to_owned(),
    }
}
