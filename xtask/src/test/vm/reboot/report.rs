//! What the guests said, as a table.

use std::fmt;
use std::time::Duration;

use ::tests::faults::{Heading, Row};
use anyhow::{Context as _, Result, ensure};

use crate::test::vm::machine::Facts;

/// The two ways in which a machine went down, as the guest names them.
const BOOTS: [&str; 2] = ["cut", "reboot"];
/// Least number of addresses that an environment's probe has to be kept from: the other's, and its own database's.
const FORBIDDEN: usize = 17;
/// How much happens to it while it runs: see `faults.sh`.
const FAULTS: usize = 23;

/// Fails unless everything that has to be shown was: a stage that says nothing has shown nothing.
pub(super) fn must_be_whole(facts: &Facts) -> Result<()> {
    ensure!(
        facts.last(&["again"]).is_some_and(|rest| rest.join(" ") == "Everything is there."),
        "a second `skepd install` still finds something to do: {:?}",
        facts.last(&["again"])
    );
    let number = |start: &[&str], place| facts.number::<u32>(start, place);
    for environment in ["production", "staging"] {
        let forbidden = facts.last(&["forbidden", environment]).context("no forbidden addresses")?;
        ensure!(forbidden.len() >= FORBIDDEN, "{environment} has too little to probe: {forbidden:?}");
        for boot in BOOTS {
            for (what, outcome) in [("probes", "reached what it must not"), ("load", "lost requests")] {
                let (count, bad) = (number(&[boot, what, environment], 0), number(&[boot, what, environment], 2));
                ensure!(count.is_some_and(|count| count > 0), "after the {boot}, {environment} has no {what}");
                ensure!(bad == Some(0), "after the {boot}, {environment} {outcome}: {bad:?}");
            }
        }
    }
    for boot in BOOTS {
        ensure!(number(&[boot, "outside"], 5) == Some(0), "after the {boot}, containers answered the outside");
    }
    for change in ["upgrade", "return", "newer"] {
        ensure!(number(&[change, "production"], 0).is_some_and(|count| count > 0), "no requests during: {change}");
    }
    let faults = faults(facts).len();
    ensure!(faults == FAULTS, "{faults} of {FAULTS} faults are in the list");
    for end in ["a purge", "skepd uninstall"] {
        let end: Vec<&str> = std::iter::once("nothing-left").chain(end.split(' ')).collect();
        ensure!(facts.last(&end).is_some(), "not shown: {}", end.join(" "));
    }
    Ok(())
}

/// What happened while it ran; what was not mended has ended the guest with an error.
fn faults(facts: &Facts) -> Vec<Row> {
    let row = |words: &[String]| {
        let [requests, failures, seconds, fault @ ..] = words else { return None };
        Some(Row {
            fault: fault.join(" "),
            requests: requests.parse().ok()?,
            failures: failures.parse().ok()?,
            repair: Duration::try_from_secs_f64(seconds.parse().ok()?).ok(),
            leaks: Vec::new(),
            isolation: 0,
            broken: false,
        })
    };
    facts.all("fault").filter_map(row).collect()
}

/// Prints as a table, a column for each kernel.
#[derive(Debug)]
pub(super) struct Report<'a>(pub(super) &'a [(String, Facts)]);

/// What is printed of each boot; the words after those that name it, and which of the rest.
const ROWS: [(&str, &[&str], usize); 12] = [
    ("  asked from outside", &["outside"], 1),
    ("  Docker", &["docker"], 0),
    ("  closed", &["closed"], 0),
    ("  a replica's first moment", &["first", "production"], 0),
    ("  its first answer", &["first", "production"], 1),
    ("  every replica back", &["back"], 0),
    ("requests since the first answer", &["load", "production"], 0),
    ("  lost", &["load", "production"], 2),
    ("rounds of forbidden requests", &["probes", "production"], 0),
    ("  answered", &["probes", "production"], 2),
    ("rounds from outside", &["outside"], 3),
    ("  answered", &["outside"], 5),
];
/// What is printed once.
const ONCE: [(&str, &[&str], usize); 10] = [
    ("requests during an upgrade", &["upgrade", "production"], 0),
    ("  lost", &["upgrade", "production"], 2),
    ("without the package and back", &["return", "production"], 0),
    ("  lost", &["return", "production"], 2),
    ("requests during `skepd upgrade`", &["newer", "production"], 0),
    ("  lost", &["newer", "production"], 2),
    ("capabilities of skepd", &["capabilities", "skepd"], 0),
    ("  of skepd-dns", &["capabilities", "skepd-dns"], 0),
    ("exposure of skepd (0 to 10)", &["exposure", "skepd"], 0),
    ("  of skepd-dns", &["exposure", "skepd-dns"], 0),
];

impl Report<'_> {
    fn line(&self, f: &mut fmt::Formatter<'_>, name: &str, value: impl Fn(&str, &Facts) -> String) -> fmt::Result {
        write!(f, "{name:<34}")?;
        for (release, facts) in self.0 {
            write!(f, " {:>22}", value(release, facts))?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |facts: &Facts, start: &[&str], place| facts.word(start, place).unwrap_or("-").to_owned();
        self.line(f, "kernel", |release, _| release.to_owned())?;
        for (boot, title) in BOOTS.into_iter().zip(["seconds after a power cut", "seconds after a reboot"]) {
            self.line(f, title, |_, _| String::new())?;
            for (name, start, place) in ROWS {
                self.line(f, name, |_, facts| word(facts, &[&[boot], start].concat(), place))?;
            }
        }
        for (name, start, place) in ONCE {
            self.line(f, name, |_, facts| word(facts, start, place))?;
        }
        for (release, facts) in self.0 {
            writeln!(f, "\n{release}, an emulated processor\n{Heading}")?;
            faults(facts).iter().try_for_each(|row| writeln!(f, "{row}"))?;
        }
        Ok(())
    }
}
