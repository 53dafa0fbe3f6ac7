//! `skepd upgrade`: this version in the place of the one that runs, or that one again.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::error::InstallError;
use super::files::{self, File, PROGRAMS};
use super::remove::PACKAGE;
use super::{Facts, Step, Wanted, apply, plan};

/// The way there and the way back.
#[derive(Debug)]
pub struct Upgrade {
    steps: Vec<Step>,
    /// What the steps overwrite.
    before: Vec<File>,
    /// What they add.
    added: Vec<PathBuf>,
}

impl Upgrade {
    /// From what is installed to this version.
    ///
    /// # Errors
    /// [`InstallError`] when nothing is installed, or a package manager sees to it.
    pub fn to_this() -> Result<Self, InstallError> {
        if Path::new(PACKAGE).exists() {
            return Err(InstallError::Package);
        }
        if !Path::new(PROGRAMS).join("skepd").is_file() {
            return Err(InstallError::NotInstalled);
        }
        let files = files::all()?;
        let facts = Facts::gather(&files)?;
        Self::of(plan(files, &facts, Wanted { keep_enablement: true }))
    }

    fn of(steps: Vec<Step>) -> Result<Self, InstallError> {
        let (mut before, mut added) = (Vec::new(), Vec::new());
        for step in &steps {
            let Step::Place(File { path, .. }) = step else { continue };
            match read(path) {
                Ok(file) => before.push(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => added.push(path.clone()),
                Err(error) => return Err(InstallError::file("read", path)(error)),
            }
        }
        Ok(Self { steps, before, added })
    }

    /// What will be done; nothing when this version is what runs.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Does it, each step said before it is done; a unit that does not come up brings the version before back.
    ///
    /// # Errors
    /// [`InstallError::PutBack`], which says whether the version before runs again.
    pub fn run(&self) -> Result<(), InstallError> {
        self.carry_out(apply::apply)
    }

    fn carry_out(&self, mut apply: impl FnMut(&Step) -> Result<(), InstallError>) -> Result<(), InstallError> {
        for step in &self.steps {
            println!("{step}");
            if let Err(source) = apply(step) {
                let left = self.go_back(apply);
                return Err(InstallError::PutBack { source: Box::new(source), left });
            }
        }
        Ok(())
    }

    /// Goes on after an error; gives all of them.
    fn go_back(&self, mut apply: impl FnMut(&Step) -> Result<(), InstallError>) -> Vec<InstallError> {
        let restarts = self.steps.iter().filter(|step| matches!(step, Step::Reload | Step::Restart(_)));
        let steps = self.before.iter().cloned().map(Step::Place).chain(restarts.cloned());
        let mut left: Vec<InstallError> = steps.filter_map(|step| apply(&step).err()).collect();
        for path in &self.added {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    left.push(InstallError::file("remove", path)(error));
                }
                _ => {}
            }
        }
        left
    }
}

fn read(path: &Path) -> io::Result<File> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    Ok(File { path: path.to_owned(), mode, content: fs::read(path)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgrade(directory: &Path) -> Upgrade {
        fs::write(directory.join("skepd"), "old").unwrap();
        let file = |name: &str| File { path: directory.join(name), mode: 0o644, content: b"new".to_vec() };
        let steps = vec![
            Step::Place(file("skepd")),
            Step::Place(file("page")),
            Step::Reload,
            Step::Restart("skepd.service"),
            Step::Restart("skepd-dns.service"),
        ];
        Upgrade::of(steps).unwrap()
    }

    /// Places files, and has no service manager: what it was asked is in `asked`.
    fn machine(
        asked: &mut Vec<String>,
        mut comes_up: impl FnMut() -> bool,
    ) -> impl FnMut(&Step) -> Result<(), InstallError> {
        move |step| match step {
            Step::Place(file) => apply::place(file),
            other => {
                asked.push(other.to_string());
                let failed = || InstallError::Failed { command: other.to_string(), said: "it died".to_owned() };
                if matches!(other, Step::Restart(_)) && !comes_up() { Err(failed()) } else { Ok(()) }
            }
        }
    }

    fn content(directory: &Path) -> Vec<(String, String)> {
        let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
        let mut files: Vec<_> = entries
            .map(|file| (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    fn owned(files: &[(&str, &str)]) -> Vec<(String, String)> {
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn what_comes_up_stays() {
        let directory = tempfile::tempdir().unwrap();
        let mut asked = Vec::new();
        upgrade(directory.path()).carry_out(machine(&mut asked, || true)).unwrap();
        assert_eq!(content(directory.path()), owned(&[("page", "new"), ("skepd", "new")]));
        assert_eq!(asked.len(), 3);
    }

    #[test]
    fn what_does_not_come_up_gives_way_to_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let (mut asked, mut starts) = (Vec::new(), 0);
        let first_fails = || {
            starts += 1;
            starts > 1
        };
        let error = upgrade(directory.path()).carry_out(machine(&mut asked, first_fails)).unwrap_err();
        assert_eq!(content(directory.path()), owned(&[("skepd", "old")]));
        let restart = "systemctl restart skepd.service";
        let again = ["systemctl daemon-reload", restart, "systemctl restart skepd-dns.service"];
        assert_eq!(asked, [&["systemctl daemon-reload", restart], &again[..]].concat());
        assert!(error.to_string().contains("the version before runs again"), "{error}");
    }

    #[test]
    fn when_nothing_comes_up_it_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let error = upgrade(directory.path()).carry_out(machine(&mut Vec::new(), || false)).unwrap_err().to_string();
        assert_eq!(content(directory.path()), owned(&[("skepd", "old")]));
        assert!(error.contains("could not be put back") && error.contains("journalctl"), "{error}");
    }
}
