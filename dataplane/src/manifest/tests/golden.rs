//! Files of the repository that say what comes out. With `SKEP_BLESS=1` in the environment they are written anew.

use std::path::Path;

/// Compares a file with what it should be.
pub(super) fn check(file: &Path, now: &str) {
    if std::env::var_os("SKEP_BLESS").is_some() {
        return std::fs::write(file, now).unwrap();
    }
    let was = std::fs::read_to_string(file).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (lines(&was), lines(now));
    let differing: Vec<String> = before
        .iter()
        .filter(|line| !after.contains(line))
        .map(|line| format!("- {line}"))
        .chain(after.iter().filter(|line| !before.contains(line)).map(|line| format!("+ {line}")))
        .collect();
    assert!(
        was == now,
        "{} is not what comes out; where that is as it should be, SKEP_BLESS=1 cargo test -p dataplane --lib manifest writes \
         it anew\n{}",
        file.display(),
        differing.join("\n")
    );
}
