//! What is taken away only on request: data of environments, images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::name::EnvironmentKey;

/// An environment's volumes and credentials are to go as soon as its last container has. Written by the API together
/// with the end of the environment, removed by the agent with the credentials: whoever dies in between is followed by
/// one that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Discard {
    /// Whose.
    #[serde(flatten)]
    pub key: EnvironmentKey,
    /// What stood in the way when it was tried last.
    pub problem: Option<String>,
}

/// The images that a node's agent has pulled: no others are ever removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Pulled {
    /// As it was pulled → what that was, by digest.
    pub images: BTreeMap<String, String>,
}
