//! A person at a terminal.

use std::io::{self, BufRead as _, Write as _};

use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::docker::Size;

/// A line typed without being shown.
///
/// # Errors
/// Standard input is no terminal, or ends.
pub fn hidden(prompt: &str) -> io::Result<String> {
    let stdin = io::stdin();
    let shown = tcgetattr(&stdin)?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    eprint!("{prompt}");
    io::stderr().flush()?;
    tcsetattr(&stdin, SetArg::TCSANOW, &hidden)?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(&stdin, SetArg::TCSANOW, &shown)?;
    eprintln!();
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Standard input hands on each key as it is typed and shows none, as long as this lives.
pub struct Raw(Termios);

impl Raw {
    /// Begins it.
    ///
    /// # Errors
    /// Standard input is no terminal.
    pub fn enter() -> io::Result<Self> {
        let usual = tcgetattr(io::stdin())?;
        let mut raw = usual.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Self(usual))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nobody is left to tell that the terminal has gone.
        let _gone = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// How large the terminal is that standard output goes to; [`None`]: it goes elsewhere, or nobody knows.
#[must_use]
pub fn size() -> Option<Size> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one winsize, which lives until after the call.
    let told = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) } == 0;
    (told && size.ws_col > 0).then_some(Size { rows: size.ws_row, columns: size.ws_col })
}
