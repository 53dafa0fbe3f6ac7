//! What keeps the controller from its work.

use crate::model::Condition;
use crate::secrets::SecretsError;
use crate::store::StoreError;

/// The controller can't go on.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The intent can't be assigned as things are.
    #[error("{0}")]
    Condition(Condition),
}
