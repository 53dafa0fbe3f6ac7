//! What the answers of a replica mean, and when to ask again.

use std::time::Duration;

use crate::model::rollout::Probe;

/// While a replica starts: so quickly at first …
const QUICK: Duration = Duration::from_millis(100);
/// … and so slowly at last, so that a deployment waits for the replica and not for the next question.
const SLOW: Duration = Duration::from_millis(250);

/// What the node knows of a replica by asking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// It has never answered well: it starts.
    Unknown {
        /// Why the last question failed, if one did.
        reason: Option<String>,
    },
    /// It answers.
    Well,
    /// It did once, and has failed as often in a row as its probe allows.
    Unwell {
        /// The last failure, for people.
        reason: String,
    },
}

impl Default for Probed {
    fn default() -> Self {
        Self::Unknown { reason: None }
    }
}

/// The answers of one life of a replica.
#[derive(Debug)]
pub(super) struct Record {
    probed: Probed,
    /// Failures since the last good answer.
    failures: u32,
}

impl Record {
    /// Of a replica that is known to have been well, or of one of which nothing is known.
    pub(super) fn new(was_well: bool) -> Self {
        Self { probed: if was_well { Probed::Well } else { Probed::Unknown { reason: None } }, failures: 0 }
    }

    /// What is known.
    pub(super) fn probed(&self) -> &Probed {
        &self.probed
    }

    /// Takes an answer, or why there was none; whether something else is known now.
    pub(super) fn take(&mut self, answer: Result<(), String>, probe: &Probe) -> bool {
        let now = match answer {
            Ok(()) => {
                self.failures = 0;
                Probed::Well
            }
            Err(reason) => {
                self.failures = self.failures.saturating_add(1);
                match &self.probed {
                    // Nobody is sent to it yet: how long it may take is the deployment's to say.
                    Probed::Unknown { .. } => Probed::Unknown { reason: Some(reason) },
                    Probed::Well if self.failures < probe.retries => Probed::Well,
                    Probed::Well | Probed::Unwell { .. } => Probed::Unwell { reason },
                }
            }
        };
        let other = self.probed != now;
        self.probed = now;
        other
    }

    /// Until the next question, of a replica that is asked for so long already. `random` spreads those of many.
    pub(super) fn pause(&self, probe: &Probe, asked_for: Duration, random: u32) -> Duration {
        let interval = Duration::from_millis(probe.interval);
        match self.probed {
            Probed::Unknown { .. } => (asked_for / 10).clamp(QUICK, SLOW).min(interval),
            Probed::Well | Probed::Unwell { .. } => jittered(interval, random),
        }
    }
}

/// Between nine and eleven tenths of it.
fn jittered(interval: Duration, random: u32) -> Duration {
    interval.mul_f64(0.9 + 0.2 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: Probe = Probe { path: None, interval: 2_000, timeout: 2_000, retries: 3 };

    fn failed(reason: &str) -> Result<(), String> {
        Err(reason.to_owned())
    }

    fn unwell(reason: &str) -> Probed {
        Probed::Unwell { reason: reason.to_owned() }
    }

    #[test]
    fn so_many_failures_in_a_row_make_it_unwell_and_one_answer_well() {
        let mut record = Record::new(false);
        assert!(record.take(Ok(()), &PROBE));
        assert!(!record.take(failed("a"), &PROBE));
        assert!(!record.take(failed("a"), &PROBE));
        assert!(!record.take(Ok(()), &PROBE), "the row is broken");
        assert!(!record.take(failed("a"), &PROBE));
        assert!(!record.take(failed("b"), &PROBE));
        assert_eq!(record.probed(), &Probed::Well);
        assert!(record.take(failed("c"), &PROBE));
        assert_eq!(record.probed(), &unwell("c"));
        assert!(!record.take(failed("c"), &PROBE));
        assert!(record.take(failed("d"), &PROBE), "another reason");
        assert!(record.take(Ok(()), &PROBE));
        assert_eq!(record.probed(), &Probed::Well);
    }

    #[test]
    fn one_that_starts_is_not_unwell_however_long_it_takes() {
        let mut record = Record::new(false);
        assert!(record.take(failed("refused"), &PROBE));
        for _ in 0..100 {
            assert!(!record.take(failed("refused"), &PROBE));
        }
        assert_eq!(record.probed(), &Probed::Unknown { reason: Some("refused".to_owned()) });
    }

    #[test]
    fn one_that_served_before_is_well_until_the_contrary_is_known() {
        let mut record = Record::new(true);
        assert_eq!(record.probed(), &Probed::Well);
        for last in [false, false, true] {
            assert_eq!(record.take(failed("refused"), &PROBE), last);
        }
        assert_eq!(record.probed(), &unwell("refused"));
    }

    #[test]
    fn no_retries_is_one() {
        let mut record = Record::new(true);
        assert!(record.take(failed("a"), &Probe { retries: 0, ..PROBE }));
        assert_eq!(record.probed(), &unwell("a"));
    }

    #[test]
    fn one_that_starts_is_asked_often_and_no_faster_than_it_is_told() {
        let record = Record::new(false);
        let after = |seconds| record.pause(&PROBE, Duration::from_secs(seconds), 0);
        assert_eq!((after(0), after(2), after(60)), (QUICK, Duration::from_millis(200), SLOW));
        let often = Probe { interval: 50, ..PROBE };
        assert_eq!(record.pause(&often, Duration::ZERO, 0), Duration::from_millis(50));
    }

    #[test]
    fn the_questions_of_many_do_not_come_at_once() {
        let record = Record::new(true);
        let with = |random| record.pause(&PROBE, Duration::ZERO, random);
        assert_eq!((with(0), with(u32::MAX)), (Duration::from_millis(1_800), Duration::from_millis(2_200)));
    }
}
