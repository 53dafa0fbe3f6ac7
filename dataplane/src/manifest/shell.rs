//! Splits a command line into words, as Compose does for the string form of `command` and `entrypoint`:
//! quotes and backslashes mean what they mean to a shell, nothing else is special.

use super::reader::Reader;
use super::yaml::{Node, Value};

/// A command: a string is split like a shell does, a list is taken as it is.
pub(super) fn words(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<Vec<String>> {
    match &node.value {
        Value::Null => None,
        Value::Scalar(_) => match split(&reader.text(node, path)?) {
            Ok(words) => Some(words),
            Err(what) => {
                reader.error(node.at, path, what, "close it, or write a list");
                None
            }
        },
        Value::List(_) | Value::Map(_) => {
            Some(reader.list(node, path, false).iter().filter_map(|item| reader.text(item, path)).collect())
        }
    }
}

/// The words, or what is wrong.
fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('\'') => break,
                        Some(inside) => word.push(inside),
                        None => return Err("a single quote is not closed"),
                    }
                }
            }
            '"' => double_quoted(&mut characters, word.get_or_insert_default())?,
            '\\' => match characters.next() {
                Some('\n') => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
                None => return Err("a backslash ends it"),
            },
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn double_quoted(characters: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), &'static str> {
    loop {
        match characters.next() {
            Some('"') => return Ok(()),
            Some('\\') => match characters.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                Some('\n') => {}
                Some(other) => word.extend(['\\', other]),
                None => return Err("a double quote is not closed"),
            },
            Some(inside) => word.push(inside),
            None => return Err("a double quote is not closed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_are_split_like_a_shell_does() {
        let cases: [(&str, &[&str]); 7] = [
            ("", &[]),
            ("  redis-server  --save '' ", &["redis-server", "--save", ""]),
            (r#"sh -c "echo \"hi\" \$X \n""#, &["sh", "-c", r#"echo "hi" $X \n"#]),
            (r"a\ b 'c d'e", &["a b", "c de"]),
            ("a \\\n b", &["a", "b"]),
            ("'a\"b' \"c'd\"", &["a\"b", "c'd"]),
            ("x=$(y) | z; &", &["x=$(y)", "|", "z;", "&"]),
        ];
        for (text, words) in cases {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
        for bad in ["'a", "\"a", "a\\", "\"a\\"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
