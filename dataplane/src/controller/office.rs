//! Which nodes may be the controller.

use futures_util::StreamExt as _;
use tracing::info;

use crate::model::Role;
use crate::store::schema::{self, Subject};
use crate::store::{Leadership, Store, StoreError, Txn, Write};

/// Returns once a node has the role `control`, or has not.
pub(super) async fn until(store: &dyn Store, node: &str, has_it: bool) -> Result<(), StoreError> {
    let key = schema::node_intent(node);
    loop {
        let range = store.range(key.as_str()).await?;
        let mut watch = store.watch(key.as_str(), range.revision).await?;
        let intent = schema::get_json(store, &key).await?.map(|intent| intent.value).unwrap_or_default();
        if intent.roles.contains(&Role::Control) == has_it {
            return Ok(());
        }
        // Other nodes' names may begin with this one's.
        let is_ours = |key: &str| Subject::of(key) == Some(Subject::NodeIntent(node.to_owned()));
        while let Some(events) = watch.next().await {
            match events {
                Ok(events) if events.iter().any(|event| is_ours(event.key())) => break,
                Ok(_) => {}
                Err(StoreError::Compacted { .. }) => break,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Lets another node win the campaign at once.
pub(super) async fn resign(store: &dyn Store, leadership: &Leadership, node: &str) -> Result<(), StoreError> {
    let then = vec![Write::Delete(leadership.key.clone())];
    // Whoever else leads by now stays.
    store.txn(Txn { compare: vec![leadership.compare()], then }).await?;
    info!(node, "Resigned: it does not have the role control.");
    Ok(())
}
