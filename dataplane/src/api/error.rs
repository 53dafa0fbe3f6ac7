use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::types::ErrorBody;
use crate::agent::{AgentError, in_one_line};
use crate::controller::ControllerError;
use crate::docker::DockerError;
use crate::model::{EnvironmentKey, ServiceKey, typo};
use crate::secrets::SecretsError;
use crate::store::StoreError;

/// An answer that is not a success.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    body: ErrorBody,
}

impl Refusal {
    /// The request itself cannot be.
    pub(super) fn bad(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error, remedy)
    }

    pub(super) fn no_environment(key: &EnvironmentKey) -> Self {
        let remedy = "see `skepctl services` for those that are there";
        Self::new(StatusCode::NOT_FOUND, format!("there is no environment {key}"), remedy)
    }

    /// Of those that its environment has.
    pub(super) fn no_service<'a>(key: &ServiceKey, all: impl IntoIterator<Item = &'a ServiceKey>) -> Self {
        let all = all.into_iter().filter(|other| other.environment == key.environment);
        let remedy = match typo::meant(&key.service, all.map(|other| other.service.as_str())) {
            Some(meant) => format!("perhaps {meant} was meant"),
            None => "see `skepctl services` for those that are there".to_owned(),
        };
        Self::new(StatusCode::NOT_FOUND, format!("there is no service {key}"), remedy)
    }

    /// It is skepd's own fault.
    pub(super) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        split(StatusCode::INTERNAL_SERVER_ERROR, &in_one_line(error))
    }

    /// What it says.
    pub(super) fn body(self) -> ErrorBody {
        self.body
    }

    pub(super) fn new(status: StatusCode, error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status, body: ErrorBody { error: error.into(), remedy: remedy.into() } }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::Full { .. } | StoreError::ReadOnly { .. } | StoreError::EtcdFull { .. } => {
                StatusCode::INSUFFICIENT_STORAGE
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        split(status, &in_one_line(&error))
    }
}

impl From<ControllerError> for Refusal {
    fn from(error: ControllerError) -> Self {
        match error {
            ControllerError::Store(error) => error.into(),
            ControllerError::Secrets(error) => error.into(),
            ControllerError::Condition(condition) => {
                Self::new(StatusCode::CONFLICT, condition.message, condition.remedy)
            }
        }
    }
}

impl From<SecretsError> for Refusal {
    fn from(error: SecretsError) -> Self {
        match error {
            SecretsError::Store(error) => error.into(),
            error => Self::internal(&error),
        }
    }
}

impl From<DockerError> for Refusal {
    fn from(error: DockerError) -> Self {
        let status = match error {
            DockerError::NoFile { .. } => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        split(status, &in_one_line(&error))
    }
}

impl From<AgentError> for Refusal {
    fn from(error: AgentError) -> Self {
        split(StatusCode::SERVICE_UNAVAILABLE, &in_one_line(&error))
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        let remedy = "see GET /v1/openapi.json for what the body should be";
        Self::new(rejection.status(), rejection.body_text(), remedy)
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text(), "see GET /v1/openapi.json for what may be asked")
    }
}

/// Errors of other modules say the way out after the last colon.
fn split(status: StatusCode, line: &str) -> Refusal {
    match line.rsplit_once(": ") {
        Some((error, remedy)) => Refusal::new(status, error, remedy),
        None => Refusal::new(status, line, "see the log of skepd"),
    }
}
