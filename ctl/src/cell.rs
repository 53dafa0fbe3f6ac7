use std::fmt;

/// What a cell is about, which is its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tone {
    /// No colour.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Not quite.
    Warn,
    /// Not at all.
    Bad,
    /// Beside the point.
    Dim,
}

impl Tone {
    /// The SGR sequence that begins it.
    fn start(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Dim => "\x1b[2m",
        }
    }

    /// `text` in this colour.
    pub(crate) fn paint(self, text: &str, color: bool) -> String {
        if color && self != Self::Plain && !text.is_empty() {
            format!("{}{text}\x1b[0m", self.start())
        } else {
            text.to_owned()
        }
    }
}

/// A cell of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

impl Cell {
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        Self { text: text.to_string(), tone: Tone::Plain }
    }

    /// A dash for nothing.
    pub(crate) fn or_dash(text: Option<impl fmt::Display>) -> Self {
        text.map_or_else(|| Self::new("-").tone(Tone::Dim), Self::new)
    }

    pub(crate) fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

impl<T: fmt::Display> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}

/// Lines of a table: columns as wide as their widest cell, two spaces between them, none at the end.
pub(crate) fn table(header: &[&str], rows: &[Vec<Cell>], color: bool) -> Vec<String> {
    let header: Vec<Cell> = header.iter().map(|title| Cell::new(title).tone(Tone::Dim)).collect();
    let mut widths = vec![0; header.len()];
    for row in std::iter::once(&header).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.chars().count());
        }
    }
    std::iter::once(&header).chain(rows).map(|row| line(row, &widths, color)).collect()
}

/// One line of a table whose columns are that wide.
pub(crate) fn line(row: &[Cell], widths: &[usize], color: bool) -> String {
    let mut line = String::new();
    for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
        line.push_str(&cell.tone.paint(&cell.text, color));
        if index + 1 < row.len() {
            line.extend(std::iter::repeat_n(' ', width - cell.text.chars().count() + 2));
        }
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_colours() {
        let rows = vec![vec![Cell::new("api").tone(Tone::Good), "1".into()], vec!["postgres".into(), "22".into()]];
        assert_eq!(table(&["NAME", "N"], &rows, false), ["NAME      N", "api       1", "postgres  22"]);
        let colored = table(&["NAME", "N"], &rows, true);
        assert_eq!(colored[1], "\x1b[32mapi\x1b[0m       1");
    }
}
