//! Secrets come from a person's fingers or from standard input, never from the command line, which every process may
//! read.

use std::io::{IsTerminal as _, Read as _};

use dataplane::terminal;

use crate::error::CtlError;

/// A password that exists already.
pub(crate) fn password(prompt: &str) -> Result<String, CtlError> {
    if std::io::stdin().is_terminal() { Ok(terminal::hidden(prompt)?) } else { read() }
}

/// A new one, which is typed twice.
pub(crate) fn new_password(prompt: &str) -> Result<String, CtlError> {
    if !std::io::stdin().is_terminal() {
        return read();
    }
    let typed = terminal::hidden(prompt)?;
    if terminal::hidden("Again: ")? == typed { Ok(typed) } else { Err(CtlError::Differ) }
}

fn read() -> Result<String, CtlError> {
    let mut password = String::new();
    std::io::stdin().read_to_string(&mut password)?;
    Ok(password.strip_suffix('\n').unwrap_or(&password).to_owned())
}
