//! Where the state is: in a file of this node, or in an etcd that several share.

use std::sync::Arc;

use super::DaemonError;
use crate::cluster;
use crate::config::Config;
use crate::store::{Embedded, Mirror, Store};

/// Opens the store.
///
/// # Errors
/// [`DaemonError`].
pub(super) async fn open(config: &Config) -> Result<Arc<dyn Store>, DaemonError> {
    let Some(etcd) = &config.etcd else { return Ok(Arc::new(Embedded::open(&config.store_file())?)) };
    let store = cluster::store(etcd).await.map_err(Box::new)?;
    Ok(Arc::new(Mirror::open(store, &config.mirror_file()).await?))
}
