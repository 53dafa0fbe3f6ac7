//! Intent → assignments: hands out ids, network bits and addresses, places replicas, numbers deployments.
//!
//! [`reconcile`] is pure: it takes one consistent step for one environment and returns it as one
//! transaction. Steps are taken until there is none left, so a crash between any two of them costs
//! nothing. [`run`] does that whenever something changes.

use std::convert::Infallible;

use crate::model::{EnvironmentKey, EnvironmentSpec, NodeRecord, Pools};
use crate::store::{Store, StoreError};

mod error;
mod state;

pub use error::ControllerError;
pub use state::State;

/// Assigns what the store's intents ask for, for as long as it is polled. Dropping it is safe at any time.
///
/// # Errors
/// [`ControllerError`] when the store fails for good.
pub async fn run(store: &dyn Store, pools: &Pools, candidate: &str) -> Result<Infallible, ControllerError> {
    let _ = (store, pools, candidate);
    unimplemented!()
}

/// What the assignments would be if `key` were asked to be `spec` ([`None`]: to be gone). Nothing is written.
///
/// # Errors
/// [`ControllerError`] when the store can't be read, or the intent can't be assigned.
pub async fn preview(
    store: &dyn Store,
    pools: &Pools,
    key: &EnvironmentKey,
    spec: Option<EnvironmentSpec>,
) -> Result<State, ControllerError> {
    let _ = (store, pools, key, spec);
    unimplemented!()
}

/// Returns this node's record, made if it has none.
///
/// # Errors
/// [`ControllerError`] when the pools have no prefix left, or the store can't be written.
pub async fn register(store: &dyn Store, pools: &Pools, name: &str) -> Result<NodeRecord, ControllerError> {
    let _ = (store, pools, name);
    let _: Option<StoreError> = None;
    unimplemented!()
}
