//! Where the state is: in a file of this node, or in an etcd that several share.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use super::DaemonError;
use super::directories::failed;
use crate::config::{Config, EtcdConfig};
use crate::store::{ConnectOptions, Embedded, Etcd, Mirror, Store, TlsOptions};

/// Opens the store.
///
/// # Errors
/// [`DaemonError`].
pub(super) async fn open(config: &Config) -> Result<Arc<dyn Store>, DaemonError> {
    let Some(etcd) = &config.etcd else { return Ok(Arc::new(Embedded::open(&config.store_file())?)) };
    let store = Etcd::connect(&etcd.members, &etcd.prefix, options(etcd)?).await?;
    Ok(Arc::new(Mirror::open(store, &config.mirror_file()).await?))
}

fn options(etcd: &EtcdConfig) -> Result<ConnectOptions, DaemonError> {
    let Some(ca) = &etcd.ca else { return Ok(ConnectOptions::new()) };
    let mut tls = TlsOptions::new().ca_certificate(crate::store::Certificate::from_pem(read(ca)?));
    if let Some((cert, key)) = &etcd.identity {
        let mode = fs::metadata(key).map_err(failed("read", key))?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(DaemonError::KeyMode { path: key.clone(), mode });
        }
        tls = tls.identity(crate::store::TlsIdentity::from_pem(read(cert)?, read(key)?));
    }
    Ok(ConnectOptions::new().with_tls(tls))
}

fn read(path: &Path) -> Result<Vec<u8>, DaemonError> {
    fs::read(path).map_err(failed("read", path))
}
