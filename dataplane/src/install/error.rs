use std::io;
use std::path::PathBuf;

/// Why Skep cannot be installed, or not be removed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Only root may.
    #[error("only root may change this machine: sudo skepd install (or --dry-run)")]
    NotRoot,
    /// Options that would hold for this command alone.
    #[error(
        "the units take no options from this command: put them into /etc/default/skep, one a line, such as \
        SKEP_VIP_POOL4=10.64.0.0/16 (skepd --help names each variable)"
    )]
    Options,
    /// Somebody else sees to upgrades.
    #[error("Skep was installed as a package, which brings upgrades itself: apt-get install ./skep_VERSION_ARCH.deb")]
    Package,
    /// There is nothing to upgrade.
    #[error("Skep is not installed on this machine: skepd install")]
    NotInstalled,
    /// The new version did not come up.
    #[error("{source}; {}; see journalctl -u skepd", put_back(left))]
    PutBack {
        /// What failed.
        source: Box<Self>,
        /// What failed on the way back.
        left: Vec<Self>,
    },
    /// A program that belongs to the installation is not beside this one.
    #[error("{} is not there: build both programs (cargo build --release), and keep them in one directory", path.display())]
    NoProgram {
        /// Where it should be.
        path: PathBuf,
    },
    /// A file.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What failed.
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What `skepctl` has to say about itself is not what was expected.
    #[error("{} does not tell its manual: {source}: use skepctl and skepd of one version", path.display())]
    Documents {
        /// Which program.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A command could not be started.
    #[error("cannot run {program}: {source}: apt-get install {package}")]
    Missing {
        /// Command.
        program: &'static str,
        /// Debian's package.
        package: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A command failed.
    #[error("{command}: {said}")]
    Failed {
        /// With its arguments.
        command: String,
        /// What it said.
        said: String,
    },
}

impl InstallError {
    /// About a file.
    pub(super) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }
}

fn put_back(left: &[InstallError]) -> String {
    match left {
        [] => "everything was put back, and the version before runs again".to_owned(),
        left => {
            let said: Vec<String> = left.iter().map(ToString::to_string).collect();
            format!("the version before could not be put back: {}", said.join("; "))
        }
    }
}
