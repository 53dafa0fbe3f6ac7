use std::io::{self, IsTerminal, Write};

use dataplane::terminal;
use serde::Serialize;

use crate::cell::{Cell, Tone, table};
use crate::cli::{Color, Format, Global};
use crate::error::CtlError;

/// Standard output and error, the way the user wants them.
pub(crate) struct Output {
    format: Format,
    color: bool,
    error_color: bool,
    terminal: bool,
    out: io::BufWriter<io::Stdout>,
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        let terminal = io::stdout().is_terminal();
        let wanted = |is_terminal: bool| match global.color {
            Color::Always => true,
            Color::Never => false,
            // https://no-color.org: set and not empty.
            Color::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        Self {
            format: global.output,
            color: wanted(terminal),
            error_color: wanted(io::stderr().is_terminal()),
            terminal,
            out: io::BufWriter::new(io::stdout()),
        }
    }

    /// Whether programs read it.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether lines may be drawn again.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether there are colours.
    pub(crate) fn is_colored(&self) -> bool {
        self.color
    }

    /// Columns of the terminal; as many as one likes where there is none.
    pub(crate) fn width(&self) -> usize {
        terminal::size().map_or(usize::MAX, |size| size.columns.into())
    }

    /// A list: `items` as a JSON array, or `rows` of them under a header.
    pub(crate) fn list<T: Serialize>(
        &mut self,
        header: &[&str],
        items: &[T],
        row: impl Fn(&T) -> Vec<Cell>,
    ) -> Result<(), CtlError> {
        if self.is_json() {
            return self.json(&items);
        }
        let rows: Vec<_> = items.iter().map(row).collect();
        table(header, &rows, self.color).iter().try_for_each(|line| self.line(line))
    }

    /// One value as JSON, indented.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), CtlError> {
        serde_json::to_writer_pretty(&mut self.out, value).map_err(io::Error::from)?;
        self.line("")
    }

    /// One value as JSON on one line, at once.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<(), CtlError> {
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)?;
        self.line("")?;
        self.flush()
    }

    /// A line of text.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), CtlError> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// `text` in a colour, where there are colours.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        tone.paint(text, self.color)
    }

    /// Takes back the last `lines` lines of a terminal.
    pub(crate) fn take_back(&mut self, lines: usize) -> Result<(), CtlError> {
        // CUU, then ED: up, and erase from there on (ECMA-48).
        if lines > 0 { Ok(write!(self.out, "\x1b[{lines}A\x1b[J")?) } else { Ok(()) }
    }

    /// What has been written so far is seen.
    pub(crate) fn flush(&mut self) -> Result<(), CtlError> {
        Ok(self.out.flush()?)
    }

    /// For people, beside the output.
    pub(crate) fn note(&mut self, text: &str) {
        let text = Tone::Dim.paint(text, self.error_color);
        // Whoever closed standard error does not want to know.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// The reason of a failure.
    pub(crate) fn error(&mut self, error: &CtlError) {
        let prefix = Tone::Bad.paint("error:", self.error_color);
        // Nothing is left to tell a failure to.
        let _ = self.out.flush();
        let _ = writeln!(io::stderr(), "{prefix} {error}");
    }
}

/// For the generator of completions, which writes to anything.
impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
