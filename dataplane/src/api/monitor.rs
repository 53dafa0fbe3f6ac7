//! What the programs let through and drop, as it happens.

use axum::extract::{Query, State};
use axum::response::Response;
use futures_util::stream;
use serde::Deserialize;

use super::Api;
use super::error::Refusal;
use super::routes::Asked;
use super::rows::Filter;
use super::stream::{line, ndjson};
use super::types::{ErrorBody, MonitorEvent};

/// Which events to tell.
#[derive(Debug, Clone, Copy, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Kinds {
    /// Only of this kind.
    #[param(inline)]
    kind: Option<Kind>,
}

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Connect,
    Drop,
}

/// Tells of every connect, and of drops, from now on; ends when skepd does.
#[utoipa::path(get, path = "/v1/monitor", params(Filter, Kinds),
    responses((status = 200, body = MonitorEvent, content_type = "application/x-ndjson"),
        (status = "4XX", body = ErrorBody)))]
pub(super) async fn monitor(
    State(api): State<Api>,
    filter: Asked<Filter>,
    kinds: Asked<Kinds>,
) -> Result<Response, Refusal> {
    let (Query(filter), Query(kinds)) = (filter?, kinds?);
    let follower = api.monitor.follow().await;
    let lines = stream::unfold((follower, filter), move |(mut follower, filter)| async move {
        loop {
            let event = follower.next().await?;
            if shows(&filter, kinds, &event) {
                return Some((line(event.as_ref()), (follower, filter)));
            }
        }
    });
    Ok(ndjson(lines))
}

/// Whether it was asked for. What was missed may have been anything.
fn shows(filter: &Filter, kinds: Kinds, event: &MonitorEvent) -> bool {
    let kind = match event {
        MonitorEvent::Connect(_) => Kind::Connect,
        MonitorEvent::Drop(_) => Kind::Drop,
        MonitorEvent::Missed { .. } => return true,
    };
    let environment = event.traffic().and_then(|traffic| traffic.environment_key());
    kinds.kind.is_none_or(|wanted| wanted == kind) && filter.shows_any(environment.as_ref())
}

#[cfg(test)]
mod tests {
    use axum::http::Uri;
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;

    fn asked<T: DeserializeOwned>(query: &str) -> T {
        let uri: Uri = format!("/v1/monitor?{query}").parse().unwrap();
        Query::try_from_uri(&uri).unwrap().0
    }

    fn event(kind: &str, project: Option<&str>) -> MonitorEvent {
        let event = json!({
            "event": kind, "time_ms": 0, "project": project, "environment": project.map(|_| "production"),
            "service": "web", "env_id": 1, "service_id": 10, "protocol": 6, "source": "10.208.0.5", "source_port": 0,
            "destination": "10.208.0.9", "destination_port": 80, "destination_service": null,
            "reason": "arp", "explanation": "", "remedy": "",
        });
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn only_what_was_asked_for_is_told() {
        let shop = [event("connect", Some("shop")), event("drop", Some("shop"))];
        let (blog, nobody) = (event("drop", Some("blog")), event("drop", None));
        let missed = MonitorEvent::Missed { events: 1 };
        for (query, expected) in [
            ("", [true, true, true, true]),
            ("kind=drop", [false, true, true, true]),
            ("kind=connect", [true, false, false, false]),
            ("project=shop", [true, true, false, false]),
            ("project=shop&kind=drop&environment=production", [false, true, false, false]),
            ("environment=staging", [false; 4]),
        ] {
            let shown = |event| shows(&asked(query), asked(query), event);
            assert_eq!([&shop[0], &shop[1], &blog, &nobody].map(shown), expected, "{query}");
            assert!(shown(&missed), "{query}");
        }
    }
}
