//! An APT of our own, which sees Debian's other releases: kernels, a newer engine. This computer's is not touched.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};

use crate::{command, paths};

/// Releases that together have every series of kernels, and where they are.
const SUITES: [(Repository, &str); 5] = [
    (Repository::Main, "bookworm"),
    (Repository::Security, "bookworm-security"),
    (Repository::Main, "trixie"),
    (Repository::Security, "trixie-security"),
    (Repository::Main, "trixie-backports"),
];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// How old the package lists may be.
const FRESH: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Repository {
    Main,
    Security,
}

/// APT's state, lists and configuration in a directory of their own.
#[derive(Debug)]
pub struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// Sets it up below `target/`, and fetches the package lists unless they are from today.
    ///
    /// # Errors
    /// The lists cannot be fetched; this computer has no source of Debian's, and `SKEP_DEBIAN_MIRROR` names none.
    pub fn new() -> Result<Self> {
        let directory = paths::target().join("apt");
        for part in ["lists/partial", "archives/partial", "preferences.d"] {
            fs::create_dir_all(directory.join(part))?;
        }
        let apt = Self { directory: directory.canonicalize()? };
        // Others may do the same at this moment: who comes second finds fresh lists.
        let lock = File::create(directory.join("lock"))?;
        lock.lock()?;
        let stamp = directory.join("updated");
        if !is_fresh(&stamp) {
            fs::write(directory.join("status"), "")?;
            fs::write(directory.join("sources.list"), sources()?)?;
            println!("Fetching the package lists of Debian's releases …");
            command::run(apt.command("apt-get").args(["update", "--quiet"]))?;
            fs::write(stamp, "")?;
        }
        Ok(apt)
    }

    /// The versions of a package, newest first.
    ///
    /// # Errors
    /// `apt-cache` fails.
    pub fn versions(&self, package: &str) -> Result<Vec<String>> {
        let table = command::run(self.command("apt-cache").args(["madison", package]))?;
        Ok(table.lines().filter_map(|line| line.split('|').nth(1)).map(|version| version.trim().to_owned()).collect())
    }

    /// What a package says of itself; nothing when there is none.
    #[must_use]
    pub fn show(&self, package: &str) -> Option<String> {
        command::run(self.command("apt-cache").args(["show", "--no-all-versions", package]))
            .ok()
            .filter(|text| !text.is_empty())
    }

    /// Downloads packages into a directory.
    ///
    /// # Errors
    /// There is none of that name, or it cannot be fetched.
    pub fn download(&self, packages: &[String], into: &Path) -> Result<()> {
        command::run(self.command("apt-get").args(["download", "--quiet"]).args(packages).current_dir(into)).map(drop)
    }

    /// Downloads packages of a release and all that they depend on into `directory/archives`, as if nothing were
    /// installed.
    ///
    /// # Errors
    /// As [`Self::download`].
    pub fn download_closure(&self, packages: &[&str], release: &str, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory.join("archives/partial"))?;
        let mut apt = self.command("apt-get");
        apt.args(["install", "--yes", "--quiet", "--download-only", "--no-install-recommends"]);
        apt.args(["--target-release", release, "--option"]);
        apt.arg(format!("Dir::Cache::archives={}/", directory.join("archives").display()));
        command::run(apt.args(packages)).map(drop)
    }

    /// A release of the main archive, as a line of `sources.list`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn source(&self, suite: &str) -> Result<String> {
        Ok(format!("deb [signed-by={KEYRING}] {} {suite} main", mirror(Repository::Main)?))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = |name: &str| self.directory.join(name).display().to_string();
        for option in [
            format!("Dir::State::lists={}", path("lists")),
            format!("Dir::State::status={}", path("status")),
            format!("Dir::Etc::sourcelist={}", path("sources.list")),
            format!("Dir::Cache={}", path("")),
            format!("Dir::Etc::preferencesparts={}", path("preferences.d")),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "APT::Sandbox::User=".to_owned() + if nix::unistd::Uid::effective().is_root() { "root" } else { "" },
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ] {
            command.args(["--option", &option]);
        }
        command
    }
}

/// `sources.list`, on the mirrors that this computer uses.
fn sources() -> Result<String> {
    let mut lines = String::new();
    for (repository, suite) in SUITES {
        lines += &format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror(repository)?);
    }
    Ok(lines)
}

/// The mirror of Debian that this computer's own APT uses, or `SKEP_DEBIAN_MIRROR` (for the main archive and,
/// with `-security` at its end, for security updates).
fn mirror(repository: Repository) -> Result<String> {
    let (label, ending) = match repository {
        Repository::Main => ("Debian", ""),
        Repository::Security => ("Debian-Security", "-security"),
    };
    if let Ok(mirror) = env::var("SKEP_DEBIAN_MIRROR") {
        return Ok(format!("{}{ending}", mirror.trim_end_matches('/')));
    }
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"]);
    let targets = command::run(&mut targets).context("this computer has no APT")?;
    let uris: BTreeSet<&str> = targets.lines().filter_map(|line| line.strip_prefix(label)?.strip_prefix(' ')).collect();
    match uris.first() {
        Some(uri) => Ok((*uri).to_owned()),
        None => {
            bail!("no source of {label} among this computer's APT sources: set SKEP_DEBIAN_MIRROR to a mirror's URL")
        }
    }
}

fn is_fresh(stamp: &Path) -> bool {
    let age = fs::metadata(stamp)
        .and_then(|meta| meta.modified())
        .map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
    age.is_ok_and(|age| age < FRESH)
}
