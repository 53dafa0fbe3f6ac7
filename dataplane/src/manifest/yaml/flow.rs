//! Flow collections that go on further to the left than YAML 1.2 lets them (7.4, 8.1), as with a closing bracket straight below
//! its key. The readers that Compose has had take them all, so published files have them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use saphyr_parser::ScanError;

/// What the parser says of such a line.
const SAID: [&str; 2] = ["invalid indentation", "invalid indentation in flow construct"];
/// So far to the right a line goes: more than anything around it is indented.
const COLUMNS: usize = 200;
/// Most lines of a file: each is one more reading of all of it.
const LINES_MAX: usize = 200;

/// A text in which such lines were moved, which changes nothing of what it says.
pub(super) struct Text<'t> {
    pub(super) text: Cow<'t, str>,
    /// How far, by their numbers.
    moved: BTreeMap<usize, usize>,
}

impl<'t> Text<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text: Cow::Borrowed(text), moved: BTreeMap::new() }
    }

    /// Moves the line that an error is about; `false` if that is of no use.
    pub(super) fn mend(&mut self, error: &ScanError) -> bool {
        let (line, column) = (error.marker().line(), error.marker().col());
        if !SAID.contains(&error.info()) || self.moved.len() == LINES_MAX || self.moved.contains_key(&line) {
            return false;
        }
        let Some(start) = self.start(error.marker().index().saturating_sub(column)) else { return false };
        self.text.to_mut().insert_str(start, &" ".repeat(COLUMNS));
        self.moved.insert(line, COLUMNS);
        true
    }

    /// Where the line is that begins with the character of this number. [`None`]: none does.
    fn start(&self, character: usize) -> Option<usize> {
        let (start, _) = self.text.char_indices().nth(character)?;
        self.text.get(..start)?.ends_with(['\n', '\r']).then_some(start)
    }

    /// A column, from 0, where it was.
    pub(super) fn column(&self, line: usize, column: usize) -> usize {
        column.saturating_sub(self.moved.get(&line).copied().unwrap_or(0))
    }
}
