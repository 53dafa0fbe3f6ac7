//! `skepd backup` and `skepd restore`: the store as one encrypted file, taken while the daemon runs or without it.
//!
//! What is in the file is a [`Snapshot`] of one revision. Restored on another machine, that machine takes the place of
//! the node that the backup is of: the same environments come up with the same names, VIPs, addresses and ids, and their
//! databases with the same credentials: the cluster's key is in the file as well. The data in volumes is not in it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::cluster::{self, ClusterError};
use crate::config::Config;
use crate::daemon::{DaemonError, make_directories};
use crate::durable;
use crate::store::{
    ClusterKey, ClusterKeyError, Embedded, SealedError, Snapshot, SnapshotError, Store as _, StoreError,
};

mod ask;
mod passphrase;
pub(crate) mod revive;
mod seal;
mod secrets;

pub(crate) use ask::is_served;
pub use passphrase::{Passphrase, PassphraseError};
pub use seal::SealError;

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The passphrase.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// The backup's file.
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
    /// The file is no backup, damaged, or of another passphrase.
    #[error("nothing was restored, {}: {source}", path.display())]
    Sealed {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: SealError,
    },
    /// What was in it is no snapshot.
    #[error("nothing was restored, the content of {}: {source}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: SnapshotError,
    },
    /// The description in front of the snapshot.
    #[error("nothing was restored, {} says of itself what this skepd does not understand: use a newer one", path.display())]
    Description {
        /// Which.
        path: PathBuf,
    },
    /// The daemon would not see what is restored.
    #[error("skepd serves {}: stop it first (systemctl stop skepd, or kill its process); what runs goes on", path.display())]
    Running {
        /// Its socket.
        path: PathBuf,
    },
    /// There are environments.
    #[error(
        "the state in {} is of {environments} environment(s): --replace to put the backup in its place, \
        or another --state-dir", path.display()
    )]
    NotEmpty {
        /// The state directory.
        path: PathBuf,
        /// How many.
        environments: usize,
    },
    /// The daemon did not give its snapshot.
    #[error("skepd at {} does not give its store: {reason}", path.display())]
    Ask {
        /// Its socket.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A backup without the key would open nobody's database.
    #[error(
        "no backup was made: the secrets in the store do not open with what is in {} ({source}): \
        give the --state-dir of the skepd whose store it is", state_dir.display()
    )]
    OtherKey {
        /// The state directory.
        state_dir: PathBuf,
        /// Why.
        #[source]
        source: Box<ClusterKeyError>,
    },
    /// Its secrets are not sealed with the key that is in it.
    #[error("nothing was restored, {}: {source}", path.display())]
    Secrets {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: SealedError,
    },
    /// This machine's own key.
    #[error("nothing was restored: {0}")]
    ClusterKey(#[source] Box<ClusterKeyError>),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cluster's etcd.
    #[error(transparent)]
    Cluster(#[from] Box<ClusterError>),
    /// The directories.
    #[error(transparent)]
    Directories(#[from] Box<DaemonError>),
}

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    /// Whose store it is.
    node: String,
    /// Version of skepd that took it.
    skepd: String,
    /// Seconds since the epoch.
    taken: u64,
    /// What the snapshot's secrets are sealed with.
    #[serde(default, with = "secrets::carried", skip_serializing_if = "Option::is_none")]
    cluster_key: Option<ClusterKey>,
}

/// What was done, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Whose store it is.
    pub node: String,
    /// When it was taken: seconds since the epoch.
    pub taken: u64,
    /// At which revision.
    pub revision: u64,
    /// Wanted environments in it.
    pub environments: usize,
    /// Where the store that was replaced is kept.
    pub kept: Option<PathBuf>,
}

/// Writes the store, as of one revision, to an encrypted `file`: whole or not at all.
///
/// # Errors
/// [`BackupError`].
pub async fn backup(config: &Config, file: &Path, passphrase: &Passphrase) -> Result<Summary, BackupError> {
    let snapshot = match &config.etcd {
        _ if is_served(&config.socket()).await => ask::snapshot(&config.socket()).await?,
        Some(etcd) => Snapshot::from(cluster::store(etcd).await.map_err(Box::new)?.range("").await?),
        None => Embedded::read(&config.store_file())?,
    };
    let cluster_key = secrets::key_of(&snapshot, &config.state_dir)
        .map_err(|source| BackupError::OtherKey { state_dir: config.state_dir.clone(), source: Box::new(source) })?;
    let description = Description {
        node: config.node_name.clone(),
        skepd: env!("CARGO_PKG_VERSION").to_owned(),
        taken: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs()),
        cluster_key,
    };
    let sealed = |source| BackupError::Sealed { path: file.to_owned(), source };
    let bytes = seal::seal(&content(&description, &snapshot), passphrase).map_err(sealed)?;
    durable::put(file, &bytes).map_err(|source| BackupError::File {
        operation: "write",
        path: file.to_owned(),
        source,
    })?;
    Ok(summary(description, &snapshot, None))
}

/// Makes what is in `file` the store of this node, whole or not at all; of a cluster, whose etcd holds nothing yet.
///
/// # Errors
/// [`BackupError`]; then nothing was changed.
pub async fn restore(
    config: &Config,
    file: &Path,
    passphrase: &Passphrase,
    replace: bool,
) -> Result<Summary, BackupError> {
    let path = config.socket();
    if is_served(&path).await {
        return Err(BackupError::Running { path });
    }
    let failed = |source| BackupError::File { operation: "read", path: file.to_owned(), source };
    let bytes = std::fs::read(file).map_err(failed)?;
    let sealed = |source| BackupError::Sealed { path: file.to_owned(), source };
    let (description, taken) = parse(file, &seal::open(&bytes, passphrase).map_err(sealed)?)?;
    if let Some(etcd) = &config.etcd {
        let pools = config.pools();
        let mut snapshot = revive::restored(taken, &description.node, &config.node_name, None, &pools)?;
        reseal(config, file, &description, &mut snapshot)?;
        cluster::fill(&cluster::store(etcd).await.map_err(Box::new)?, &snapshot).await?;
        return Ok(summary(description, &snapshot, None));
    }
    let store = config.store_file();
    let before = revive::before(&store);
    let environments = before.as_ref().map_or(0, revive::environments);
    let unreadable = before.is_none() && (store.exists() || !Embedded::copies(&store).is_empty());
    if (environments > 0 || unreadable) && !replace {
        return Err(BackupError::NotEmpty { path: config.state_dir.clone(), environments });
    }
    let mut snapshot = revive::restored(taken, &description.node, &config.node_name, before.as_ref(), &config.pools())?;
    reseal(config, file, &description, &mut snapshot)?;
    let kept = Embedded::replace(&store, &snapshot)?;
    Ok(summary(description, &snapshot, kept))
}

/// Seals the secrets of a snapshot, which are sealed with the key in the backup, with this machine's own.
fn reseal(config: &Config, file: &Path, description: &Description, snapshot: &mut Snapshot) -> Result<(), BackupError> {
    let open = secrets::open(snapshot, description.cluster_key.as_ref())
        .map_err(|source| BackupError::Secrets { path: file.to_owned(), source })?;
    make_directories(config).map_err(Box::new)?;
    secrets::seal(snapshot, open, &config.state_dir).map_err(|source| BackupError::ClusterKey(Box::new(source)))
}

fn summary(description: Description, snapshot: &Snapshot, kept: Option<PathBuf>) -> Summary {
    let Description { node, taken, .. } = description;
    Summary { node, taken, revision: snapshot.revision, environments: revive::environments(snapshot), kept }
}

/// Length of the description (`u32`, little-endian), the description as JSON, the snapshot.
fn content(description: &Description, snapshot: &Snapshot) -> Vec<u8> {
    let json = serde_json::to_vec(description).unwrap_or_default();
    let mut content = u32::try_from(json.len()).unwrap_or_default().to_le_bytes().to_vec();
    content.extend(json);
    content.extend(snapshot.encode());
    content
}

fn parse(path: &Path, content: &[u8]) -> Result<(Description, Snapshot), BackupError> {
    let unknown = || BackupError::Description { path: path.to_owned() };
    let (length, rest) = content.split_first_chunk().ok_or_else(unknown)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| unknown())?;
    let (json, snapshot) = rest.split_at_checked(length).ok_or_else(unknown)?;
    let description = serde_json::from_slice(json).map_err(|_| unknown())?;
    let snapshot = Snapshot::decode(snapshot);
    Ok((description, snapshot.map_err(|source| BackupError::Content { path: path.to_owned(), source })?))
}

#[cfg(test)]
mod tests {
    use super::*;

    mod secrets;

    #[test]
    fn the_content_is_described_and_a_newer_description_is_refused() {
        let mut snapshot = Snapshot { revision: 9, ..Snapshot::default() };
        snapshot.put("/a".into(), vec![1, 2, 3]);
        let (node, skepd) = ("n1".to_owned(), "0.1.0".to_owned());
        let mut description = Description { node, skepd, taken: 17, cluster_key: None };
        let path = Path::new("/backup");
        let without_key = content(&description, &snapshot);
        assert_eq!(parse(path, &without_key).unwrap(), (description.clone(), snapshot.clone()));
        let dir = tempfile::tempdir().unwrap();
        description.cluster_key = Some(ClusterKey::open_or_make(dir.path()).unwrap());
        let bytes = content(&description, &snapshot);
        let (again, content) = parse(path, &bytes).unwrap();
        assert_eq!((again, content), (description, snapshot));
        for end in 0..bytes.len() {
            assert!(parse(path, &bytes[..end]).is_err());
        }
        let newer = br#"{"node":"n1","skepd":"9","taken":1,"moon":true}"#;
        let newer = [&u32::try_from(newer.len()).unwrap().to_le_bytes()[..], newer].concat();
        assert!(matches!(parse(path, &newer), Err(BackupError::Description { .. })));
    }
}
