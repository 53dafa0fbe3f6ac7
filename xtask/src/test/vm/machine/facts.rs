use std::str::FromStr;

use anyhow::{Result, ensure};

use super::{DEADLINE, Guest};

/// What a machine said of itself; see `words.sh`.
#[derive(Clone, Debug, Default)]
pub(in crate::test::vm) struct Facts {
    words: Vec<Vec<String>>,
}

impl Facts {
    /// Listens until the guest says `word`.
    ///
    /// # Errors
    /// What it says that is not so, or that it takes too long.
    pub(in crate::test::vm) fn hear(&mut self, guest: &mut Guest, word: &str) -> Result<()> {
        let mut failures = Vec::new();
        for line in guest.until(word, DEADLINE)? {
            match line.strip_prefix("failed ") {
                Some(what) => failures.push(what.to_owned()),
                None => self.words.push(line.split_whitespace().map(str::to_owned).collect()),
            }
        }
        ensure!(failures.is_empty(), "not so: {}; see {}", failures.join("; "), guest.console());
        Ok(())
    }

    /// The rest of each line that begins with this word.
    pub(in crate::test::vm) fn all(&self, start: &str) -> impl Iterator<Item = &[String]> {
        self.words
            .iter()
            .filter_map(move |words| words.split_first().filter(|(first, _)| *first == start))
            .map(|it| it.1)
    }

    /// The rest of the last line that begins with these words.
    pub(in crate::test::vm) fn last(&self, start: &[&str]) -> Option<&[String]> {
        self.words.iter().rev().find_map(|words| {
            let same = words.len() >= start.len() && words.iter().zip(start).all(|(word, wanted)| word == wanted);
            same.then(|| &words[start.len()..])
        })
    }

    /// A word of such a line.
    pub(in crate::test::vm) fn word(&self, start: &[&str], place: usize) -> Option<&str> {
        self.last(start)?.get(place).map(String::as_str)
    }

    /// The same as a number.
    pub(in crate::test::vm) fn number<N: FromStr>(&self, start: &[&str], place: usize) -> Option<N> {
        self.word(start, place)?.parse().ok()
    }
}
