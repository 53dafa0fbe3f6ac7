//! The API's description, made from the handlers themselves.

use utoipa::OpenApi;

use super::{
    activity, copies, events, inside, inspect, intent, invitations, leave, logs, monitor, nodes, one_offs, prune,
    registries, routes, runs, secrets, stream,
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Skep", description = "The node daemon's API, on the Unix socket `<run-dir>/skepd.sock`."),
    paths(
        intent::put,
        leave::delete,
        intent::deploy,
        intent::rollback,
        intent::scale,
        activity::stop,
        activity::start,
        activity::restart,
        activity::remove,
        secrets::list,
        secrets::rotate,
        registries::list,
        registries::put,
        registries::delete,
        routes::deployments,
        runs::list,
        prune::prune,
        invitations::post,
        nodes::list,
        nodes::cordon,
        nodes::uncordon,
        nodes::drain,
        nodes::label,
        nodes::roles,
        nodes::rotate_key,
        nodes::remove,
        routes::replicas,
        routes::services,
        routes::endpoints,
        routes::names,
        routes::check,
        routes::snapshot,
        routes::version,
        stream::watch,
        events::events,
        logs::logs,
        inspect::service,
        inside::exec,
        one_offs::run,
        copies::path,
        copies::read,
        copies::write,
        inside::forward,
        monitor::monitor,
    )
)]
struct Document;

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    /// Every `$ref` in it.
    fn references(value: &Value) -> BTreeSet<String> {
        match value {
            Value::Object(fields) => {
                let own = fields.get("$ref").and_then(Value::as_str).map(str::to_owned);
                fields.values().flat_map(references).chain(own).collect()
            }
            Value::Array(items) => items.iter().flat_map(references).collect(),
            _ => BTreeSet::new(),
        }
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        let document = serde_json::to_value(super::document()).unwrap();
        let references = references(&document);
        assert!(references.contains("#/components/schemas/MonitorEvent"), "{references:?}");
        for reference in references {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }
}
