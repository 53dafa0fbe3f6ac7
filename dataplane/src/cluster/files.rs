//! What a node of a cluster keeps in its state directory, and what makes it one: the last file that is written.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ClusterError;
use crate::config::EtcdConfig;
use crate::durable;
use crate::private::failed;

/// Its directory, below the state directory.
const DIRECTORY: &str = "cluster";

/// Which cluster a node is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// URLs of etcd's members, at least one.
    pub members: Vec<String>,
    /// What all keys begin with there.
    pub prefix: String,
}

/// The files, by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files(PathBuf);

impl Files {
    pub(crate) fn of(state_dir: &Path) -> Self {
        Self(state_dir.join(DIRECTORY))
    }

    /// Where they are.
    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    /// Which cluster it is: [`Cluster`] as JSON.
    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("cluster.json")
    }

    /// The authority's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// Its key: only where nodes are admitted.
    pub(crate) fn authority(&self) -> PathBuf {
        self.0.join("authority.key")
    }

    /// This node's certificate, as a client of etcd.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.0.join("node.pem")
    }

    /// Its key.
    pub(crate) fn key(&self) -> PathBuf {
        self.0.join("node.key")
    }

    /// The certificate of the member of etcd that runs here.
    pub(super) fn member_certificate(&self) -> PathBuf {
        self.0.join("etcd.pem")
    }

    /// Its key.
    pub(super) fn member_key(&self) -> PathBuf {
        self.0.join("etcd.key")
    }

    /// How it is run.
    pub(super) fn member_config(&self) -> PathBuf {
        self.0.join("etcd.yaml")
    }

    /// What it says while the cluster is made.
    pub(super) fn member_log(&self) -> PathBuf {
        self.0.join("etcd.log")
    }

    /// Its data.
    pub(super) fn member_data(&self) -> PathBuf {
        self.0.join("etcd")
    }

    /// The cluster, if this node is of one.
    ///
    /// # Errors
    /// [`ClusterError::PrivateFile`], [`ClusterError::Record`].
    pub(crate) fn cluster(&self) -> Result<Option<Cluster>, ClusterError> {
        let path = self.record();
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|source| ClusterError::Record { path, source }),
            // Who may not look into it is no daemon.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => Ok(None),
            Err(error) => Err(failed("read", &path)(error).into()),
        }
    }

    /// How this node comes to a cluster's etcd.
    pub(crate) fn etcd(&self, cluster: &Cluster) -> EtcdConfig {
        let Cluster { members, prefix } = cluster.clone();
        EtcdConfig { members, prefix, ca: Some(self.ca()), identity: Some((self.certificate(), self.key())) }
    }

    /// Writes what the node comes to etcd with.
    ///
    /// # Errors
    /// [`ClusterError::PrivateFile`].
    pub(super) fn identify(&self, ca: &str, certificate: &str, key: &str) -> Result<(), ClusterError> {
        self.put(&self.ca(), ca)?;
        self.put(&self.certificate(), certificate)?;
        self.put(&self.key(), key)
    }

    /// Makes the node one of the cluster, when all the rest is there: what it had `alone` is kept beside, `settle` puts there
    /// what takes its place, and the record comes last.
    ///
    /// # Errors
    /// [`ClusterError`]; then the node is of no cluster, and has what it had.
    pub(super) fn enter(
        &self,
        cluster: &Cluster,
        alone: &[PathBuf],
        settle: impl FnOnce() -> Result<(), ClusterError>,
    ) -> Result<(), ClusterError> {
        let record = self.record();
        let there: Vec<&PathBuf> = alone.iter().filter(|path| path.exists()).collect();
        let mut moved = Vec::new();
        let enter = || {
            for path in there {
                fs::rename(path, kept(path)).map_err(failed("move away", path))?;
                moved.push(path);
            }
            settle()?;
            let json = serde_json::to_string_pretty(cluster).map_err(io::Error::other);
            self.put(&record, &json.map_err(failed("write", &record))?)
        };
        // Whether it can be undone or not, why it failed is what counts.
        enter().inspect_err(|_| moved.iter().for_each(|path| drop(fs::rename(kept(path), path))))
    }

    /// Writes one of them, for its owner alone.
    ///
    /// # Errors
    /// [`ClusterError::PrivateFile`].
    pub(super) fn put(&self, path: &Path, content: &str) -> Result<(), ClusterError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(failed("make", &self.0))?;
        Ok(durable::put(path, content.as_bytes()).map_err(failed("write", path))?)
    }

    /// Takes them all away; there may be none.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Where a file of a node alone is kept.
fn kept(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".moved");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_node_is_of_a_cluster_when_everything_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::of(dir.path());
        assert_eq!(files.cluster().unwrap(), None);
        let cluster = Cluster { members: vec!["https://10.0.0.1:2379".into()], prefix: "/skep".into() };
        files.identify("ca", "certificate", "key").unwrap();
        assert_eq!(files.cluster().unwrap(), None);
        let own = dir.path().join("store");
        fs::write(&own, "alone").unwrap();
        let full = || {
            fs::write(&own, "others'").unwrap();
            Err(ClusterError::NoAddress)
        };
        assert!(files.enter(&cluster, std::slice::from_ref(&own), full).is_err());
        assert_eq!((files.cluster().unwrap(), fs::read(&own).unwrap().as_slice()), (None, &b"alone"[..]));
        files.enter(&cluster, std::slice::from_ref(&own), || Ok(())).unwrap();
        assert_eq!(files.cluster().unwrap(), Some(cluster));
        assert!(!own.exists() && dir.path().join("store.moved").exists());
        assert_eq!(fs::metadata(files.key()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(dir.path().join(DIRECTORY)).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(files.record(), r#"{"members": [], "moon": 1}"#).unwrap();
        assert!(files.cluster().unwrap_err().to_string().contains("cluster.json"));
        files.remove().unwrap();
        files.remove().unwrap();
        assert_eq!(files.cluster().unwrap(), None);
    }
}
