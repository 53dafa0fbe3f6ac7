//! Where lines come from: the engine of this node, or the daemon of another one.

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use futures_util::{Stream, StreamExt as _};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::agent::in_one_line;
use crate::api::error::Refusal;
use crate::api::routes::Asked;
use crate::api::stream::{QUEUE, from_channel, line, ndjson};
use crate::api::types::ErrorBody;
use crate::api::{Api, relay};
use crate::controller::State as Assignments;
use crate::docker::{LogLine, LogQuery};

/// What one container of another node says.
pub(in crate::api) const OF_CONTAINER: &str = "/v1/node/logs";

/// What to tell of which container.
#[derive(Debug, Deserialize)]
pub(in crate::api) struct OfContainer {
    container: String,
    #[serde(default)]
    follow: bool,
    tail: Option<u32>,
    since: Option<u64>,
}

/// What a container of this node says, for another node's daemon.
pub(in crate::api) async fn of_container(
    State(api): State<Api>,
    wanted: Asked<OfContainer>,
) -> Result<Response, Refusal> {
    let Query(OfContainer { container, follow, tail, since }) = wanted?;
    let state = Assignments::load(api.store.as_ref()).await?;
    let is_ours = state
        .statuses
        .values()
        .any(|status| status.node == api.node.name && status.container.as_ref() == Some(&container));
    if !is_ours {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "there is no such container of a replica", "ask again"));
    }
    let said = channel(api.observer.logs(container, LogQuery { follow, tail, since }));
    Ok(ndjson(from_channel(said).map(|said| line(&said))))
}

/// What a container of a node says.
///
/// # Errors
/// [`Refusal`] when that is another node, which cannot be asked.
pub(super) async fn said(
    api: &Api,
    node: &str,
    container: &str,
    query: LogQuery,
) -> Result<mpsc::Receiver<LogLine>, Refusal> {
    if node == api.node.name {
        return Ok(channel(api.observer.logs(container.to_owned(), query)));
    }
    let LogQuery { follow, tail, since } = query;
    let further = [tail.map(|tail| format!("&tail={tail}")), since.map(|since| format!("&since={since}"))];
    let further: String = further.into_iter().flatten().collect();
    let path = format!("{OF_CONTAINER}?container={container}&follow={follow}{further}");
    let request = Request::get(path).header(header::HOST, node).body(Body::empty());
    let answer = relay::ask(api, node, request.map_err(|error| Refusal::internal(&error))?).await?;
    let status = answer.status();
    if status != StatusCode::OK {
        let told = axum::body::to_bytes(answer.into_body(), usize::from(u16::MAX)).await.unwrap_or_default();
        let told: ErrorBody = serde_json::from_slice(&told)
            .unwrap_or_else(|_| ErrorBody { error: format!("{node} answers {status}"), remedy: "see its log".into() });
        return Err(Refusal::new(status, told.error, told.remedy));
    }
    Ok(channel(lines(node.to_owned(), answer.into_body())))
}

/// Lines out of a body. One that breaks off ends with the last that is whole.
fn lines(node: String, body: Body) -> impl Stream<Item = LogLine> + Send + 'static {
    futures_util::stream::unfold((body, Vec::new()), move |(mut body, mut rest): (Body, Vec<u8>)| {
        let node = node.clone();
        async move {
            loop {
                if let Some(end) = rest.iter().position(|octet| *octet == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    return Some((serde_json::from_slice(&line).ok(), (body, rest)));
                }
                match next(&mut body).await? {
                    Ok(piece) => rest.extend_from_slice(&piece),
                    Err(error) => {
                        tracing::warn!(node, error = in_one_line(&error), "What a replica there says broke off.");
                        return None;
                    }
                }
            }
        }
    })
    .filter_map(std::future::ready)
}

/// The next octets of a body.
async fn next(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    loop {
        let frame = std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context)).await?;
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => return Some(Ok(data)),
            // Trailers: there are none.
            Ok(Err(_)) => {}
            Err(error) => return Some(Err(error)),
        }
    }
}

/// What is said, until nobody listens any more.
fn channel(said: impl Stream<Item = LogLine> + Send + 'static) -> mpsc::Receiver<LogLine> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut said = std::pin::pin!(said);
        loop {
            let line = tokio::select! {
                line = said.next() => line,
                () = sender.closed() => return,
            };
            let Some(line) = line else { return };
            if sender.send(line).await.is_err() {
                return;
            }
        }
    });
    receiver
}
