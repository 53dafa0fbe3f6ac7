use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures_util::{Stream, StreamExt, TryStreamExt};

use super::labels::{Labels, of_node};
use super::{Docker, DockerError, Role};
use crate::model::ReplicaKey;

/// What happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// Its process was started.
    Started,
    /// Its process ended.
    Died {
        /// Exit status.
        exit_code: Option<i64>,
    },
    /// Frozen or thawed.
    Paused(bool),
    /// Its health check says so.
    Health(String),
    /// Removed.
    Destroyed,
    /// Anything else that changed it (create, rename, update, oom …).
    Other(String),
}

/// Something happened to a container of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEvent {
    /// Container id.
    pub id: String,
    /// Which half of the replica.
    pub role: Role,
    /// Whose.
    pub key: ReplicaKey,
    /// What.
    pub kind: EventKind,
}

impl Docker {
    /// Events of this node's containers from now on, those before the first poll included; one that
    /// is told twice does no harm. Ends with an error when the engine goes away: connect again, then list.
    pub fn events(&self, node: &str) -> impl Stream<Item = Result<ContainerEvent, DockerError>> + Send + Unpin + use<> {
        let mut filters = of_node(node);
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        let options = EventsOptions { since: Some(a_moment_ago()), until: None, filters: Some(filters) };
        let failed = self.failed("follow", "events");
        let ended = failed(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        let docker = self.clone();
        // Whoever listens anew does so because the engine went away, and may find another one.
        let subscribed = async move {
            let messages = docker.renew().await?.events(Some(options));
            Ok(messages.filter_map(move |message| {
                std::future::ready(match message {
                    Ok(message) => event(message).map(Ok),
                    Err(error) => Some(Err(failed(error))),
                })
            }))
        };
        futures_util::stream::once(subscribed)
            .try_flatten()
            .chain(futures_util::stream::once(std::future::ready(Err(ended))))
            .boxed()
    }

    /// Rings whenever an image came, or got another name. Ends as [`Self::events`] does.
    pub fn images(&self) -> impl Stream<Item = Result<(), DockerError>> + Send + Unpin + use<> {
        const COMES: [&str; 5] = ["pull", "load", "import", "tag", "create"];
        let filters = HashMap::from([("type".to_owned(), vec!["image".to_owned()])]);
        let options = EventsOptions { since: Some(a_moment_ago()), until: None, filters: Some(filters) };
        let docker = self.clone();
        let subscribed = async move {
            let failed = docker.failed("follow", "images");
            let messages = docker.client().await?.events(Some(options));
            let comes =
                |message: &EventMessage| message.action.as_deref().is_some_and(|action| COMES.contains(&action));
            Ok(messages
                .map_err(failed)
                .try_filter_map(move |message| std::future::ready(Ok(comes(&message).then_some(())))))
        };
        futures_util::stream::once(subscribed).try_flatten().boxed()
    }
}

/// The engine repeats what happened since then, to the second before: its clock is ours.
fn a_moment_ago() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(1)).as_secs().to_string()
}

fn event(message: EventMessage) -> Option<ContainerEvent> {
    let actor = message.actor?;
    let attributes = actor.attributes?;
    let labels = Labels::parse(&attributes)?;
    let action = message.action?;
    let kind = match action.as_str() {
        "start" => EventKind::Started,
        "die" => EventKind::Died { exit_code: attributes.get("exitCode").and_then(|code| code.parse().ok()) },
        "pause" => EventKind::Paused(true),
        "unpause" => EventKind::Paused(false),
        "destroy" => EventKind::Destroyed,
        // Every command in a container; they change nothing.
        exec if exec.starts_with("exec_") => return None,
        other => match other.strip_prefix("health_status: ") {
            Some(health) => EventKind::Health(health.to_owned()),
            None => EventKind::Other(action),
        },
    };
    Some(ContainerEvent { id: actor.id?, role: labels.role, key: labels.key, kind })
}

#[cfg(test)]
mod tests {
    use bollard::models::EventActor;

    use super::super::labels::example;
    use super::*;

    fn told(action: &str) -> Option<EventKind> {
        let mut attributes = example(Role::Workload).into_map();
        attributes.insert("exitCode".to_owned(), "137".to_owned());
        let actor = EventActor { id: Some("c1".to_owned()), attributes: Some(attributes) };
        let message = EventMessage { action: Some(action.to_owned()), actor: Some(actor), ..EventMessage::default() };
        event(message).map(|event| event.kind)
    }

    #[test]
    fn events_say_what_matters_to_a_replica() {
        assert_eq!(told("start"), Some(EventKind::Started));
        assert_eq!(told("die"), Some(EventKind::Died { exit_code: Some(137) }));
        assert_eq!(told("destroy"), Some(EventKind::Destroyed));
        assert_eq!(told("health_status: healthy"), Some(EventKind::Health("healthy".to_owned())));
        assert_eq!(told("oom"), Some(EventKind::Other("oom".to_owned())));
        assert_eq!(told("exec_start: ls"), None);
    }
}
