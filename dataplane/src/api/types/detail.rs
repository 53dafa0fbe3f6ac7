use serde::{Deserialize, Serialize};

use super::{DeploymentRow, EndpointRow, NameRow, ReplicaRow, RunRow, ServiceRow};
use crate::model::ServiceSpec;

/// All that is known of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceDetail {
    /// What is assigned to it.
    pub service: ServiceRow,
    /// What serves, as the file says it; generated credentials are not in it.
    pub spec: ServiceSpec,
    /// Its versions that are remembered.
    pub deployments: Vec<DeploymentRow>,
    /// Its replicas.
    pub replicas: Vec<ReplicaRow>,
    /// Their network presence.
    pub endpoints: Vec<EndpointRow>,
    /// Its names.
    pub names: Vec<NameRow>,
    /// Its runs, if it has a schedule.
    pub runs: Vec<RunRow>,
}

/// What is at a path of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PathRow {
    /// Something is.
    pub exists: bool,
    /// A directory, or a link that leads to one.
    pub directory: bool,
}
