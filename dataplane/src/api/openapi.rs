//! The API's description, made from the handlers themselves.

use utoipa::OpenApi;

use super::{routes, stream};

#[derive(OpenApi)]
#[openapi(
    info(title = "Skep", description = "The node daemon's API, on the Unix socket `<run-dir>/skepd.sock`."),
    paths(
        routes::put_environment,
        routes::delete_environment,
        routes::replicas,
        routes::services,
        routes::endpoints,
        routes::names,
        routes::check,
        routes::version,
        stream::watch,
    )
)]
struct Document;

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}
