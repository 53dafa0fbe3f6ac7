//! What all test programs together came to.

use std::fmt;

use super::run::Outcome;

/// Outcomes in the order of running.
#[derive(Debug, Default)]
pub(super) struct Summary(Vec<(String, Outcome)>);

impl Summary {
    pub(super) fn add(&mut self, name: &str, outcome: Outcome) {
        self.0.push((name.to_owned(), outcome));
    }

    /// Whether every program ended as it should.
    pub(super) fn passed(&self) -> bool {
        self.0.iter().all(|(_, outcome)| outcome.success)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20} {:>7} {:>7} {:>8} {:>8}", "tests", "passed", "failed", "ignored", "seconds")?;
        let mut total = Outcome { success: true, ..Outcome::default() };
        for (name, outcome) in &self.0 {
            let remark = if outcome.success { "" } else { "  FAILED" };
            line(f, name, outcome)?;
            writeln!(f, "{remark}")?;
            total.passed += outcome.passed;
            total.failed += outcome.failed;
            total.ignored += outcome.ignored;
            total.took += outcome.took;
        }
        line(f, "all", &total)
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, outcome: &Outcome) -> fmt::Result {
    let Outcome { passed, failed, ignored, took, .. } = outcome;
    write!(f, "{name:<20} {passed:>7} {failed:>7} {ignored:>8} {:>8.1}", took.as_secs_f64())
}
