use std::str::FromStr;

/// What a machine said of itself; see `words.sh`.
#[derive(Clone, Debug, Default)]
pub(in crate::test::vm) struct Facts {
    words: Vec<Vec<String>>,
    pub(in crate::test::vm) failures: Vec<String>,
}

impl Facts {
    /// Takes the lines of a boot in.
    pub(in crate::test::vm) fn read(&mut self, lines: &[String]) {
        for line in lines {
            match line.strip_prefix("failed ") {
                Some(what) => self.failures.push(format!("not so: {what}")),
                None => self.words.push(line.split_whitespace().map(str::to_owned).collect()),
            }
        }
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
