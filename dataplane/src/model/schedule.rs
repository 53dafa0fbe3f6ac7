//! When something runs that ends by itself: cron's five fields, or six with seconds in front, read in UTC. The zone of a
//! node would make nodes differ, and a clock that is put forward or back would leave a run out or repeat it.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, CronPattern};

/// Without seconds, and with them.
const FIELDS: RangeInclusive<usize> = 5..=6;

/// Days of each month, in a leap year.
const DAYS: [u16; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A schedule: `30 4 * * 1-5`, `*/10 * * * * *` every ten seconds, names of months and weekdays, or a nickname as `@daily`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Cron);

/// Why a text is none.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// Too many fields, or too few.
    #[error("it has {0} of cron's five fields")]
    Fields(usize),
    /// A field says what it can't.
    #[error("{}", reason(.0))]
    Field(#[source] CronError),
    /// As the 30th of February.
    #[error("no month that it names has the day that it names")]
    Never,
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let fields = text.split_whitespace().count();
        let is_nickname = fields == 1 && text.trim_start().starts_with('@');
        if !is_nickname && !FIELDS.contains(&fields) {
            return Err(ScheduleError::Fields(fields));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(ScheduleError::Field)?;
        if comes(&cron.pattern) { Ok(Self(cron)) } else { Err(ScheduleError::Never) }
    }
}

impl Schedule {
    /// The first moment that it names after `after`, in whole seconds.
    pub fn next(&self, after: SystemTime) -> Option<SystemTime> {
        let seconds = after.duration_since(UNIX_EPOCH).ok()?.as_secs();
        let after = DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0)?;
        let next = self.0.find_next_occurrence(&after, false).ok()?.timestamp();
        Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(next).ok()?))
    }
}

/// Milliseconds since the epoch as people read them, in UTC as schedules are.
pub fn utc(millis: u64) -> String {
    let time = i64::try_from(millis / 1_000).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    time.map_or_else(String::new, |time| time.to_string())
}

/// Whether its day ever comes. The library would search thousands of years for one that does not.
fn comes(pattern: &CronPattern) -> bool {
    let by_weekday = !pattern.is_dow_wildcard() && !pattern.matches_dom_and_dow();
    let months = pattern.months.values();
    let longest = DAYS.iter().zip(1_u16..).filter(|(_, month)| months.contains(month)).map(|(days, _)| *days).max();
    by_weekday || pattern.days.has_modifiers() || pattern.days.values().first().copied() <= longest
}

fn reason(error: &CronError) -> String {
    let text = match error {
        CronError::InvalidPattern(text) | CronError::IllegalCharacters(text) | CronError::ComponentError(text) => {
            text.clone()
        }
        other => other.to_string(),
    };
    text.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-09-21T14:13:20Z, a Monday.
    const NOW: u64 = 1_790_000_000;

    fn next(text: &str) -> String {
        let schedule: Schedule = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let next = schedule.next(UNIX_EPOCH + Duration::from_secs(NOW)).unwrap();
        let seconds = next.duration_since(UNIX_EPOCH).unwrap().as_secs();
        DateTime::from_timestamp(seconds.cast_signed(), 0).unwrap().to_string()
    }

    #[test]
    fn the_next_moment_is_the_one_that_cron_would_take() {
        let cases = [
            ("* * * * *", "2026-09-21 14:14:00 UTC"),
            ("*/20 * * * *", "2026-09-21 14:20:00 UTC"),
            ("13 14 * * *", "2026-09-22 14:13:00 UTC"),
            ("30 4 * * 1-5", "2026-09-22 04:30:00 UTC"),
            ("0 3 * * 7", "2026-09-27 03:00:00 UTC"),
            ("0 3 * * sun", "2026-09-27 03:00:00 UTC"),
            ("0 0 1 JAN,jul *", "2027-01-01 00:00:00 UTC"),
            ("0 0 29 2 *", "2028-02-29 00:00:00 UTC"),
            // A day of the month or a weekday, whichever comes first.
            ("0 12 1,15 * 3", "2026-09-23 12:00:00 UTC"),
            ("0 0 31 2 5", "2027-02-05 00:00:00 UTC"),
            ("@daily", "2026-09-22 00:00:00 UTC"),
            (" 0  3 *\t* * ", "2026-09-22 03:00:00 UTC"),
            // With seconds in front.
            ("*/15 * * * * *", "2026-09-21 14:13:30 UTC"),
            ("20 13 14 * * *", "2026-09-22 14:13:20 UTC"),
        ];
        for (text, expected) in cases {
            assert_eq!(next(text), expected, "{text}");
        }
    }

    #[test]
    fn a_minute_comes_once() {
        let schedule: Schedule = "0 3 * * *".parse().unwrap();
        let mut at = UNIX_EPOCH + Duration::from_secs(NOW);
        for _ in 0..3 {
            let next = schedule.next(at).unwrap();
            assert!(next > at && schedule.next(next - Duration::from_nanos(1)) == Some(next));
            at = next;
        }
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        let cases = [
            ("", "it has 0 of cron's five fields"),
            ("* * * *", "it has 4 of"),
            ("0 0 3 * * * *", "it has 7 of"),
            ("60 0 3 * * *", "out of bounds"),
            ("0 0 0 30 2 *", "no month that it names"),
            ("60 * * * *", "out of bounds"),
            ("*/0 * * * *", "zero"),
            ("0 22-2 * * *", "out of bounds"),
            ("a b c d e", "illegal"),
            ("@reboot", "Pattern"),
            ("0 0 30 2 *", "no month that it names"),
            ("0 0 31 4,6,9,11 *", "no month that it names"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Schedule>().unwrap_err().to_string();
            assert!(error.contains(expected) && !error.ends_with('.'), "{text}: {error}");
        }
    }
}
