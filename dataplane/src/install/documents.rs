//! Man pages and completions, made from the command line itself.

use std::collections::BTreeMap;
use std::io;

use clap::Command;
use clap_complete::{Shell, generate};
use clap_mangen::Man;

/// Files by their path below `/usr/share`.
pub type Documents = BTreeMap<String, String>;

/// Everything about a program, `section` being its manual's (1: for everybody, 8: for the administrator).
///
/// # Errors
/// Never in practice: what is written to is memory.
pub fn of(mut program: Command, section: u8) -> io::Result<Documents> {
    let name = program.get_name().to_owned();
    let mut documents = Documents::new();
    let places = [
        (Shell::Bash, format!("bash-completion/completions/{name}")),
        (Shell::Zsh, format!("zsh/vendor-completions/_{name}")),
        (Shell::Fish, format!("fish/vendor_completions.d/{name}.fish")),
    ];
    for (shell, path) in places {
        let mut text = Vec::new();
        generate(shell, &mut program.clone(), &name, &mut text);
        documents.insert(path, lossy(&text));
    }
    program.build();
    pages(&program, section, &mut documents)?;
    Ok(documents)
}

/// The page of a command that is built, and those of its subcommands: `skepctl-map-dump.1`.
fn pages(command: &Command, section: u8, documents: &mut Documents) -> io::Result<()> {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        pages(sub, section, documents)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut page = Vec::new();
    Man::new(command.clone()).section(section.to_string()).render(&mut page)?;
    documents.insert(format!("man/man{section}/{name}.{section}"), lossy(&page));
    Ok(())
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::config::Args;

    #[test]
    fn every_command_has_a_page_and_every_shell_its_completions() {
        let documents = of(Args::command(), 8).unwrap();
        let page = &documents["man/man8/skepd-install.8"];
        assert!(page.contains(".TH") && page.contains("\\-\\-dry\\-run"), "{page}");
        assert!(documents["man/man8/skepd.8"].contains("skepd\\-uninstall(8)"));
        assert!(!documents.contains_key("man/man8/skepd-dns.8"), "dns is no command for people");
        assert!(documents["bash-completion/completions/skepd"].contains("uninstall"));
        assert!(documents.contains_key("zsh/vendor-completions/_skepd"));
        assert!(documents.contains_key("fish/vendor_completions.d/skepd.fish"));
    }
}
