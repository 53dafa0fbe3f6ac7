//! The tables of all keys as people read them: `ctl/COMPOSE.md` is made from those that the reader obeys.

use std::fmt::Write as _;
use std::path::Path;

use super::super::keys::{Class, SECTIONS, Section};
use super::golden;

const HEAD: &str = "\
<!-- Made from dataplane/src/manifest/keys.rs: SKEP_BLESS=1 cargo test -p dataplane --lib manifest writes it anew. -->

# What becomes of every key of a Compose file

A key is *honoured* as the Compose Specification has it, but for what is said beside it, or *without effect*, which `skepctl up` and
`skepctl config` note with its line; what is *replaced* is noted with what does its work here, and of a file with something *refused*
nothing is applied: the error has the line, the reason and the way out. A key that says nothing, or no, is as if it were not there; one
that is in no table is refused, unless it begins with `x-`: those are yours.
";

#[test]
fn every_key_is_in_the_documentation() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ctl/COMPOSE.md");
    golden::check(&file, &SECTIONS.into_iter().fold(HEAD.to_owned(), table));
}

fn table(mut text: String, section: &Section) -> String {
    let name = if section.name.is_empty() { "The file".to_owned() } else { format!("`{}`", section.name) };
    let _infallible =
        write!(text, "\n## {name}\n\n| key | what becomes of it | how, why, or what instead |\n|---|---|---|\n");
    for (key, class) in section.keys {
        let (becomes, more) = match class {
            Class::Honoured => ("honoured", String::new()),
            Class::Explained(how) => ("honoured", (*how).to_owned()),
            Class::NoEffect(why) => ("without effect", (*why).to_owned()),
            Class::Replaced(remedy) => ("replaced", (*remedy).to_owned()),
            Class::Refused(why, remedy) => ("refused", format!("{why}; {remedy}")),
        };
        let _infallible = writeln!(text, "| `{key}` | {becomes} | {} |", escaped(&more));
    }
    text
}

/// As it is, wherever Markdown would make something of it.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| ['\\', c].into_iter().skip(usize::from(!"|<>*[]".contains(c)))).collect()
}
