//! What replicas say.

use serde::{Deserialize, Serialize};

use crate::model::ReplicaKey;

/// A line of `GET /v1/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum LogEvent {
    /// A replica said it.
    Line(LogRow),
    /// What a replica says is known on another node, which cannot be asked.
    Unheard {
        /// Which.
        #[serde(flatten)]
        key: ReplicaKey,
        /// Why, in one sentence.
        error: String,
        /// What to do about it.
        remedy: String,
    },
}

/// A line of a replica's output; of a long one, a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogRow {
    /// Whose.
    #[serde(flatten)]
    pub key: ReplicaKey,
    /// When it was said: RFC 3339, UTC.
    pub time: String,
    /// On standard error.
    pub stderr: bool,
    /// Without its end.
    pub text: String,
}
