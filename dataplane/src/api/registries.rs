//! Who may pull from where. No password leaves this module.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::Api;
use super::error::Refusal;
use super::routes::Answer;
use super::types::{ErrorBody, Login, RegistryRow};
use crate::clock::unix;
use crate::model::registry::{canonical, is_registry};
use crate::model::{RegistryLogin, Secret};

/// The registries that skepd logs in to.
#[utoipa::path(get, path = "/v1/registries", responses((status = 200, body = Vec<RegistryRow>)))]
pub(super) async fn list(State(api): State<Api>) -> Answer<Vec<RegistryRow>> {
    let logins = api.secrets.logins().await?.into_iter();
    Ok(Json(logins.map(|(registry, login)| row(registry, &login)).collect()))
}

/// Has images of a registry pulled as this user from now on.
#[utoipa::path(put, path = "/v1/registries/{registry}", request_body = Login,
    responses((status = 200, body = RegistryRow), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn put(
    State(api): State<Api>,
    Path(registry): Path<String>,
    body: Result<Json<Login>, JsonRejection>,
) -> Answer<RegistryRow> {
    let Json(Login { user, password }) = body?;
    if !is_registry(&registry) {
        let error = format!("{registry:?} is no registry");
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            error,
            "name it as images do: ghcr.io, or registry.example:5000",
        ));
    }
    if user.is_empty() || password.is_empty() {
        let error = format!("a login to {registry} needs a user and a password");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, error, "a token counts as a password"));
    }
    let login = RegistryLogin { user, password: Secret::new(password), made: unix() / 1000 };
    let registry = canonical(&registry);
    api.secrets.log_in(registry, &login).await?;
    Ok(Json(row(registry.to_owned(), &login)))
}

/// Forgets the login to a registry.
#[utoipa::path(delete, path = "/v1/registries/{registry}",
    responses((status = 200, body = RegistryRow), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn delete(State(api): State<Api>, Path(registry): Path<String>) -> Answer<RegistryRow> {
    let registry = canonical(&registry);
    match api.secrets.log_out(registry).await? {
        Some(login) => Ok(Json(row(registry.to_owned(), &login))),
        None => {
            let error = format!("there is no login to {registry}");
            Err(Refusal::new(StatusCode::NOT_FOUND, error, "see `skepctl registry list`"))
        }
    }
}

fn row(registry: String, login: &RegistryLogin) -> RegistryRow {
    RegistryRow { registry, user: login.user.clone(), made: login.made }
}
