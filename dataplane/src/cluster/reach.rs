//! Where etcd is, and as whom this node comes to it.

use std::fs;
use std::path::Path;

use super::ClusterError;
use crate::config::EtcdConfig;
use crate::private::{self, PrivateFileError};
use crate::store::{Certificate, ConnectOptions, Etcd, TlsIdentity, TlsOptions};

/// The etcd's store, which need not answer yet.
///
/// # Errors
/// [`ClusterError`] when it can never be.
pub(crate) async fn store(etcd: &EtcdConfig) -> Result<Etcd, ClusterError> {
    Ok(Etcd::connect(&etcd.members, &etcd.prefix, options(etcd)?).await?)
}

/// TLS with its certificates, where there are any.
///
/// # Errors
/// [`PrivateFileError`] when one cannot be read, or others may read the key.
pub(super) fn options(etcd: &EtcdConfig) -> Result<ConnectOptions, PrivateFileError> {
    let Some(ca) = &etcd.ca else { return Ok(ConnectOptions::new()) };
    let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca)?));
    if let Some((certificate, key)) = &etcd.identity {
        tls = tls.identity(TlsIdentity::from_pem(read(certificate)?, &*private::named(key, "have another one made")?));
    }
    Ok(ConnectOptions::new().with_tls(tls))
}

fn read(path: &Path) -> Result<Vec<u8>, PrivateFileError> {
    fs::read(path).map_err(private::failed("read", path))
}
