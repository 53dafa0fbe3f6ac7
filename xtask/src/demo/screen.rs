//! One screen that is redrawn on a terminal, and plain lines elsewhere.

use std::io::{IsTerminal as _, Write as _, stderr, stdout};

/// What is shown.
pub(super) struct Screen {
    lines: Vec<String>,
    status: String,
    /// Redraw the whole screen; otherwise each line is printed once.
    live: bool,
    to_stdout: bool,
}

impl Screen {
    /// On standard output when a person reads it, else on standard error.
    pub(super) fn new(to_stdout: bool) -> Self {
        Self { lines: Vec::new(), status: String::new(), live: to_stdout && stdout().is_terminal(), to_stdout }
    }

    /// Begins a part.
    pub(super) fn section(&mut self, title: &str) {
        self.line(String::new());
        self.line(if self.live { format!("\x1b[1m{title}\x1b[0m") } else { title.to_owned() });
    }

    /// Adds a line.
    pub(super) fn line(&mut self, line: String) {
        if self.live {
            self.lines.push(line);
            self.draw();
        } else {
            self.print(&line);
        }
    }

    /// Says what is being done.
    pub(super) fn status(&mut self, status: &str) {
        status.clone_into(&mut self.status);
        if self.live {
            self.draw();
        } else {
            self.print(&format!("… {status}"));
        }
    }

    /// Says how far it has come, where that does not fill page after page.
    pub(super) fn progress(&mut self, status: &str) {
        if self.live && self.status != status {
            self.status(status);
        }
    }

    /// `ok` or `DIFFERS`, coloured on a terminal.
    pub(super) fn verdict(&self, as_expected: bool) -> &'static str {
        match (as_expected, self.live) {
            (true, true) => "\x1b[32mok\x1b[0m",
            (false, true) => "\x1b[31mDIFFERS\x1b[0m",
            (true, false) => "ok",
            (false, false) => "DIFFERS",
        }
    }

    /// Leaves the cursor below the last line.
    pub(super) fn end(&self) {
        if self.live {
            self.print("");
        }
    }

    fn draw(&self) {
        let mut out = stdout().lock();
        // Home, every line with its rest cleared, then everything below.
        let text: String = self.lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
        // A closed terminal is no reason to leave things behind: the demo goes on and cleans up.
        let _closed = write!(out, "\x1b[H{text}\x1b[K\n\x1b[2m{}\x1b[0m\x1b[K\x1b[J", self.status);
        let _closed = out.flush();
    }

    fn print(&self, line: &str) {
        let _closed = if self.to_stdout { writeln!(stdout(), "{line}") } else { writeln!(stderr(), "{line}") };
    }
}
