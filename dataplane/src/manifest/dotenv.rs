//! `.env` and `env_file`: lines of `KEY=value`, as Compose reads them.

use super::interpolate::{InterpolationError, interpolate};

/// A line that can't be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DotenvError {
    /// From 1.
    pub(super) line: usize,
    pub(super) what: String,
    pub(super) remedy: &'static str,
}

/// Reads a file's text. A bare `KEY` has the value that `lookup` knows, or is left out. With `raw`, quotes,
/// comments behind values and `$` are nothing special.
pub(super) fn parse(
    text: &str,
    raw: bool,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(String, String)>, DotenvError> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    while !rest.is_empty() {
        let (first, _) = rest.split_once('\n').unwrap_or((rest, ""));
        let mut taken = (first.len() + 1).min(rest.len());
        let entry = first.trim_start();
        if !entry.trim_end().is_empty() && !entry.starts_with('#') {
            let entry = entry.strip_prefix("export ").map_or(entry, str::trim_start);
            // Later lines may use earlier ones.
            let known = |name: &str| {
                lookup(name).or_else(|| variables.iter().rev().find(|(key, _)| key == name).map(|(_, v)| v.clone()))
            };
            match entry.split_once('=') {
                None => {
                    let key = checked_key(entry.trim_end(), line)?;
                    variables.extend(lookup(key).map(|value| (key.to_owned(), value)));
                }
                Some((key, value)) => {
                    let key = checked_key(key.trim_end(), line)?.to_owned();
                    let start = offset_of(rest, value);
                    let (value, used) = if raw {
                        (value.trim_end_matches('\r').to_owned(), value.len())
                    } else {
                        value_at(rest.get(start..).unwrap_or_default(), line, &known)?
                    };
                    let end = start + used;
                    taken = rest.get(end..).and_then(|tail| tail.find('\n')).map_or(rest.len(), |at| end + at + 1);
                    variables.push((key, value));
                }
            }
        }
        let (done, tail) = rest.split_at(taken);
        line += done.matches('\n').count();
        rest = tail;
    }
    Ok(variables)
}

/// Where `part` begins in `whole`, of which it is a slice.
fn offset_of(whole: &str, part: &str) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}

fn checked_key(key: &str, line: usize) -> Result<&str, DotenvError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if key.is_empty() || !key.chars().all(fits) {
        let what = format!("{key:?} is no variable's name");
        return Err(DotenvError { line, what, remedy: "write KEY=value" });
    }
    Ok(key)
}

/// The value at the start of `text`, and how many bytes of it were used.
fn value_at(text: &str, line: usize, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(String, usize), DotenvError> {
    let trimmed = text.trim_start_matches([' ', '\t']);
    let indent = text.len() - trimmed.len();
    let quote = trimmed.chars().next().filter(|c| matches!(c, '"' | '\''));
    let Some(quote) = quote else {
        let end = trimmed.find('\n').unwrap_or(trimmed.len());
        let (value, _) = trimmed.split_at(end);
        let comment = if value.starts_with('#') { Some(0) } else { value.find(" #").or_else(|| value.find("\t#")) };
        let plain = value.get(..comment.unwrap_or(value.len())).unwrap_or_default().trim_end();
        return Ok((expanded(plain, line, lookup)?, indent + end));
    };
    let inside = trimmed.get(1..).unwrap_or_default();
    let Some(end) = closing_quote(inside, quote) else {
        let what = format!("the quote {quote} is not closed");
        return Err(DotenvError { line, what, remedy: "close it" });
    };
    let (content, tail) = inside.split_at(end);
    let after = tail.get(1..).unwrap_or_default().split('\n').next().unwrap_or_default().trim();
    if !after.is_empty() && !after.starts_with('#') {
        let what = format!("{after:?} follows the closing quote");
        return Err(DotenvError { line, what, remedy: "put the whole value between the quotes" });
    }
    let value = if quote == '\'' { content.to_owned() } else { expanded(&unescaped(content), line, lookup)? };
    Ok((value, indent + 1 + end + 1))
}

fn closing_quote(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (index, character) in text.char_indices() {
        if character == quote && !escaped {
            return Some(index);
        }
        escaped = quote == '"' && character == '\\' && !escaped;
    }
    None
}

/// Escapes of double quotes. `\$` becomes `$$`, which interpolation makes a dollar sign.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('$') => out.push_str("$$"),
            Some(other @ ('"' | '\\' | '\'')) => out.push(other),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

fn expanded(text: &str, line: usize, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, DotenvError> {
    match interpolate(text, lookup) {
        Ok(interpolated) => Ok(interpolated.text),
        Err(InterpolationError::Format(form)) => {
            let what = format!("{form:?} is no form of ${{VARIABLE}}");
            Err(DotenvError { line, what, remedy: "write $$ for a dollar sign, or single quotes around the value" })
        }
        Err(InterpolationError::Required { variable, message }) => {
            let what = format!("{variable} is not set: {message}");
            Err(DotenvError { line, what, remedy: "set it" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".into())
    }

    #[test]
    fn values_are_read_as_compose_reads_them() {
        let text = "\u{feff}# comment\nA=1\nexport B = two words # note\nC='$A #x'\nD=\"a\\nb \\\"$A\\\" \\$A\"\n\
                    E=\nF=a#b\nHOME\nNOPE\nG=\"two\nlines\" # x\r\nH=${A}${NO:-z}\r\n\nI=#c\nJ=http://x/?a=b";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "$A #x"),
            ("D", "a\nb \"1\" $A"),
            ("E", ""),
            ("F", "a#b"),
            ("HOME", "/root"),
            ("G", "two\nlines"),
            ("H", "1z"),
            ("I", ""),
            ("J", "http://x/?a=b"),
        ];
        let parsed = parse(text, false, &lookup).unwrap();
        assert_eq!(parsed.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
        let raw = parse("A='x' # $y\r\nB=$$\n", true, &lookup).unwrap();
        assert_eq!(raw, [("A".into(), "'x' # $y".into()), ("B".into(), "$$".into())]);
    }

    #[test]
    fn errors_have_their_line() {
        let cases = [("A=1\n=2", 2), ("A B=1", 1), ("\n\nA=\"x", 3), ("A='x'y", 1), ("A=\"1\n2\"\nB=$", 3)];
        for (text, line) in cases {
            assert_eq!(parse(text, false, &lookup).unwrap_err().line, line, "{text}");
        }
    }
}
