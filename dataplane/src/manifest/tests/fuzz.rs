//! Whatever a file says, reading it ends with a manifest or with errors that have a place.

use proptest::prelude::*;

use super::*;

/// Words that a file is made of, so that mutation reaches beyond the YAML parser.
const WORDS: [&str; 46] = [
    "services:",
    "networks:",
    "volumes:",
    "image:",
    "a:",
    "b:",
    "- ",
    "  ",
    "\n",
    "\n  ",
    "\n    ",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "&x ",
    "*x",
    "<<:",
    "!!str ",
    "!t ",
    "|\n",
    ">\n",
    "\"",
    "'",
    "#",
    "---\n",
    "~",
    "x-skep:",
    "type:",
    "depends_on:",
    "environment:",
    "healthcheck:",
    "schedule:",
    "port:",
    "0",
    "10s",
    "NONE",
    "${",
    "$$",
    "${A:-",
    "}",
    "\t",
    "é",
    "\u{0}",
];

fn never_panics(text: &str) -> Result<(), TestCaseError> {
    match load_text(text) {
        Ok(manifest) => prop_assert!(manifest.spec.check().is_empty()),
        Err(ManifestError::Refused(errors)) => {
            prop_assert!(!errors.is_empty());
            for error in errors {
                prop_assert!(error.line >= 1 && error.column >= 1 && !error.to_string().contains('\n'), "{error:?}");
            }
        }
        Err(ManifestError::Read { .. }) => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_file_never_panics(
        file in prop::sample::select(&[FULL, rollout::FULL][..]),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, prop::sample::select(&WORDS[..])), 1..8)
    ) {
        let mut text: Vec<char> = file.chars().collect();
        for (at, remove, insert) in cuts {
            let at = at.index(text.len());
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
        }
        never_panics(&text.into_iter().collect::<String>())?;
    }

    #[test]
    fn a_heap_of_words_never_panics(words in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..60)) {
        never_panics(&words.concat())?;
    }
}
