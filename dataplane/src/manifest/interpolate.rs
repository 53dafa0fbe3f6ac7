//! `$VAR`, `${VAR}` and its forms with a default, an error or a replacement, as Compose has them.

/// What a text became.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Interpolated {
    pub(super) text: String,
    /// Variables that are not set and have no default: empty.
    pub(super) unset: Vec<String>,
}

/// Why a text can't be interpolated.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InterpolationError {
    /// No such form.
    Format(String),
    /// `${VAR:?message}` and it is not set.
    Required { variable: String, message: String },
}

/// Nesting of defaults in defaults.
const DEPTH_MAX: usize = 16;

/// Replaces what stands for variables in a text.
pub(super) fn interpolate(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Interpolated, InterpolationError> {
    let mut result = Interpolated { text: String::with_capacity(text.len()), unset: Vec::new() };
    expand(text, lookup, &mut result, 0)?;
    Ok(result)
}

fn expand(
    mut rest: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    result: &mut Interpolated,
    depth: usize,
) -> Result<(), InterpolationError> {
    while let Some((before, after)) = rest.split_once('$') {
        result.text.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            result.text.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let close = closing(after).ok_or_else(|| InterpolationError::Format(shown("${", after)))?;
            let (inside, tail) = after.split_at(close);
            if depth == DEPTH_MAX {
                return Err(InterpolationError::Format(shown("${", after)));
            }
            braced(inside, lookup, result, depth)?;
            rest = tail.get(1..).unwrap_or_default();
        } else {
            let (name, tail) = after.split_at(name_len(after));
            if name.is_empty() {
                return Err(InterpolationError::Format(shown("$", after)));
            }
            substitute(name, lookup(name), result);
            rest = tail;
        }
    }
    result.text.push_str(rest);
    Ok(())
}

fn braced(
    inside: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    result: &mut Interpolated,
    depth: usize,
) -> Result<(), InterpolationError> {
    let (name, operator) = inside.split_at(name_len(inside));
    if name.is_empty() {
        return Err(InterpolationError::Format(format!("${{{inside}}}")));
    }
    let value = lookup(name);
    if operator.is_empty() {
        substitute(name, value, result);
        return Ok(());
    }
    // With a colon, an empty value counts as none.
    let (value, operator) = match operator.strip_prefix(':') {
        Some(operator) => (value.filter(|value| !value.is_empty()), operator),
        None => (value, operator),
    };
    let mut characters = operator.chars();
    let kind = characters.next();
    let word = characters.as_str();
    match (kind, value) {
        (Some('-' | '?'), Some(value)) => result.text.push_str(&value),
        (Some('-'), None) | (Some('+'), Some(_)) => expand(word, lookup, result, depth + 1)?,
        (Some('+'), None) => {}
        (Some('?'), None) => {
            let mut message = Interpolated { text: String::new(), unset: Vec::new() };
            expand(word, lookup, &mut message, depth + 1)?;
            return Err(InterpolationError::Required { variable: name.to_owned(), message: message.text });
        }
        _ => return Err(InterpolationError::Format(format!("${{{inside}}}"))),
    }
    Ok(())
}

fn substitute(name: &str, value: Option<String>, result: &mut Interpolated) {
    match value {
        Some(value) => result.text.push_str(&value),
        None => result.unset.push(name.to_owned()),
    }
}

fn name_len(text: &str) -> usize {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// Where the brace that is open closes; inner `${…}` are skipped.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut dollar = false;
    for (index, character) in text.char_indices() {
        match character {
            '{' if dollar => depth += 1,
            '}' if depth == 0 => return Some(index),
            '}' => depth -= 1,
            _ => {}
        }
        dollar = character == '$' && !dollar;
    }
    None
}

fn shown(start: &str, rest: &str) -> String {
    format!("{start}{}", rest.chars().take(20).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "SET" => Some("value".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn text(text: &str) -> String {
        interpolate(text, &lookup).unwrap().text
    }

    #[test]
    fn every_form_of_compose() {
        let cases = [
            ("plain", "plain"),
            ("a$SET.b", "avalue.b"),
            ("${SET}x", "valuex"),
            ("$$SET", "$SET"),
            ("$${SET}", "${SET}"),
            ("${SET:-d}", "value"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NO-d}", "d"),
            ("${NO:-}", ""),
            ("${SET:+r}", "r"),
            ("${EMPTY:+r}", ""),
            ("${EMPTY+r}", "r"),
            ("${NO+r}", ""),
            ("${SET:?e}", "value"),
            ("${EMPTY?e}", ""),
            ("${NO:-${SET}}", "value"),
            ("${NO:-a${NO2:-b}c}d", "abcd"),
            ("${NO:-a:b/c}", "a:b/c"),
        ];
        for (from, to) in cases {
            assert_eq!(text(from), to, "{from}");
        }
        assert_eq!(interpolate("$NO${NO}", &lookup).unwrap().unset, ["NO", "NO"]);
    }

    #[test]
    fn errors_name_the_form_or_the_variable() {
        let required = |variable: &str, message: &str| {
            Err(InterpolationError::Required { variable: variable.into(), message: message.into() })
        };
        assert_eq!(interpolate("${NO:?set it}", &lookup), required("NO", "set it"));
        assert_eq!(interpolate("${EMPTY:?}", &lookup), required("EMPTY", ""));
        assert_eq!(interpolate("${NO?see $SET}", &lookup), required("NO", "see value"));
        for bad in ["$", "a$ b", "${", "${}", "${SET", "${1}", "$1", "${SET*x}", "${SET:}", "${SET:x}", "${ SET }"] {
            assert!(matches!(interpolate(bad, &lookup), Err(InterpolationError::Format(_))), "{bad}");
        }
        assert!(interpolate(&"${A:-".repeat(10_000), &lookup).is_err());
        assert!(interpolate(&format!("{}{}", "${A:-".repeat(5_000), "}".repeat(5_000)), &lookup).is_err());
    }
}
