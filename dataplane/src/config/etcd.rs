//! Which etcd holds the state of several nodes.

use std::path::{Path, PathBuf};

use super::{ConfigError, absolute};
use crate::cluster::Files;

/// Where etcd is, and as whom to come to it.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct EtcdOptions {
    /// Members of the etcd that several nodes share, `https://10.0.0.1:2379,https://10.0.0.2:2379` [default: none; the store
    /// is a file of this node].
    #[arg(long = "etcd", global = true, env = "SKEP_ETCD", value_name = "URL", value_delimiter = ',')]
    pub members: Vec<String>,
    /// What the names of all keys begin with there, so that others may use the same etcd.
    #[arg(long = "etcd-prefix", global = true, env = "SKEP_ETCD_PREFIX", value_name = "PATH", default_value = "/skep")]
    pub prefix: String,
    /// Certificate (PEM) of the authority that vouches for its members.
    #[arg(long = "etcd-ca", global = true, env = "SKEP_ETCD_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// This node's own certificate (PEM), where etcd asks clients for one; its common name is the user where etcd has
    /// authentication on.
    #[arg(long = "etcd-cert", global = true, env = "SKEP_ETCD_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long = "etcd-key", global = true, env = "SKEP_ETCD_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// The etcd of several nodes; paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// URLs of members, at least one.
    pub members: Vec<String>,
    /// What our keys begin with there.
    pub prefix: String,
    /// Certificate of the members' authority; none: plain HTTP.
    pub ca: Option<PathBuf>,
    /// Own certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl EtcdOptions {
    /// The etcd of the cluster that the node was made one of (`skepd cluster init`, `skepd join`), or the one that is named
    /// here; [`None`] when there is neither.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub(super) fn resolve(self, state_dir: &Path) -> Result<Option<EtcdConfig>, ConfigError> {
        let files = Files::of(state_dir);
        let joined = files.cluster().map_err(Box::new)?.map(|cluster| files.etcd(&cluster));
        let Self { members, prefix, ca, cert, key } = self;
        if members.is_empty() {
            return Ok(joined);
        }
        let refuse = |what: String, remedy: &'static str| Err(ConfigError::Etcd { what, remedy });
        if joined.is_some() {
            let what = format!("this node is of a cluster ({}), and --etcd is given", files.record().display());
            return refuse(what, "take --etcd (SKEP_ETCD) away, or have the node leave with `skepd uninstall --purge`");
        }
        for member in &members {
            if !["http://", "https://"]
                .into_iter()
                .any(|scheme| member.starts_with(scheme) && member.len() > scheme.len())
            {
                return refuse(format!("--etcd {member:?} is no URL"), "write https://HOST:2379");
            }
            if member.starts_with("https://") != ca.is_some() {
                return refuse(
                    format!("--etcd {member}: https goes with --etcd-ca, http without"),
                    "give the certificate of etcd's authority, or plain http where nobody else can listen",
                );
            }
        }
        if !prefix.starts_with('/') || prefix.ends_with('/') {
            return refuse(format!("--etcd-prefix {prefix:?}"), "begin with a slash, and end without one, as /skep");
        }
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((path("--etcd-cert", &cert)?, path("--etcd-key", &key)?)),
            (None, None) => None,
            _ => return refuse("--etcd-cert and --etcd-key go together".into(), "give both, or neither"),
        };
        let ca = ca.map(|ca| path("--etcd-ca", &ca)).transpose()?;
        Ok(Some(EtcdConfig { members, prefix, ca, identity }))
    }
}

fn path(flag: &'static str, path: &Path) -> Result<PathBuf, ConfigError> {
    absolute(flag, path.to_owned())
}
