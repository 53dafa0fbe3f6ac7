use serde::{Deserialize, Serialize};

/// Body of `POST /v1/prune`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Prune {
    /// Change nothing; answer with what would be removed.
    #[serde(default)]
    pub dry_run: bool,
    /// With volumes and credentials of environments that are gone.
    #[serde(default)]
    pub volumes: bool,
    /// So many deployments of each service stay; [`None`]: 10.
    pub keep: Option<u32>,
}

/// Something that was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PruneRow {
    /// What it is.
    pub kind: Prunable,
    /// Which.
    pub name: String,
    /// Why nothing needs it.
    pub why: String,
}

/// What may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Prunable {
    /// A version of a service that does not serve.
    Deployment,
    /// An image that skepd has pulled.
    Image,
    /// A named volume, with its data.
    Volume,
    /// Generated credentials of a service.
    Credentials,
}

impl std::fmt::Display for Prunable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Deployment => "deployment",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Credentials => "credentials",
        })
    }
}
