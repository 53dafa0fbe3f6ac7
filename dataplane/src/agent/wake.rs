//! What wakes the agent: the store, Docker, the kernel. Each is watched before the first full look, so that nothing
//! falls in between; many events at once are one wake-up.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::error::in_one_line;
use super::observe::Observer;
use crate::config::Config;
use crate::docker::EventKind;
use crate::egress;
use crate::netlink::{self, Change, Elsewhere, Netlink, VETH_PREFIX};
use crate::store::schema::Subject;
use crate::store::{Revision, Store};

/// Pause before a source that broke off is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// Pause before a source is asked again that others stand in for: the next look comes within seconds anyway.
const UNTOLD_RETRY: Duration = Duration::from_secs(30);

/// Whom to wake.
#[derive(Debug, Default)]
pub(super) struct Bells {
    /// Something is perhaps not as it should be.
    pub(super) look: Notify,
    /// An image came: what failed for want of one is worth another attempt.
    pub(super) images: Notify,
    /// The node's own routes, rules or addresses are perhaps not as they should be.
    pub(super) ground: Notify,
    /// A part of a pair that others may change again and again is perhaps not as it should be.
    pub(super) pair: Notify,
}

/// Starts watching; ends when the set is dropped.
pub(super) fn watch(
    store: Arc<dyn Store>,
    after: Revision,
    observer: &Arc<Observer>,
    bells: &Arc<Bells>,
) -> JoinSet<()> {
    let mut sources = JoinSet::new();
    let here = observer.config.node_name.clone();
    sources.spawn(watch_store(store, after, here, Arc::clone(bells)));
    sources.spawn(watch_images(Arc::clone(observer), Arc::clone(bells)));
    sources.spawn(watch_docker(Arc::clone(observer), Arc::clone(bells)));
    sources.spawn(watch_kernel(Arc::clone(observer), Arc::clone(bells)));
    sources.spawn(watch_containers(Arc::clone(observer), Arc::clone(bells)));
    sources.spawn(watch_firewall(Arc::clone(bells)));
    sources.spawn(watch_senses(Arc::clone(observer), Arc::clone(bells)));
    sources
}

async fn watch_store(store: Arc<dyn Store>, mut after: Revision, here: String, bells: Arc<Bells>) {
    const PREFIX: &str = "/";
    loop {
        match store.watch(PREFIX, after).await {
            Ok(mut events) => {
                while let Some(events) = events.next().await {
                    match events {
                        Ok(events) => {
                            after = events.last().map_or(after, |event| event.revision());
                            if !events.iter().any(|event| concerns(event.key(), &here)) {
                                continue;
                            }
                        }
                        Err(error) => {
                            warn!(error = in_one_line(&error), "The watch of the store broke off; reading all again.");
                            break;
                        }
                    }
                    bells.look.notify_one();
                }
            }
            Err(error) => warn!(error = in_one_line(&error), "Cannot watch the store; trying again."),
        }
        tokio::time::sleep(RETRY).await;
        if let Ok(range) = store.range(PREFIX).await {
            after = range.revision;
        }
        bells.look.notify_one();
    }
}

/// Whether a change of this key changes what this node should be. What it tells itself does not.
fn concerns(key: &str, here: &str) -> bool {
    match Subject::of(key) {
        Some(Subject::Status(node, _)) => node != here,
        Some(Subject::NodeIntent(node)) => node == here,
        Some(
            Subject::Environment(_)
            | Subject::Service(_)
            | Subject::Replica(..)
            | Subject::Node(_)
            | Subject::Tunnel(_)
            | Subject::Presence(_)
            | Subject::Discard(_),
        ) => true,
        _ => false,
    }
}

async fn watch_docker(observer: Arc<Observer>, bells: Arc<Bells>) {
    let mut told = false;
    loop {
        let mut events = observer.docker.events(&observer.config.node_name);
        // Whatever happened before this subscription is found by the look that follows it.
        observer.containers.forget();
        bells.look.notify_one();
        while let Some(event) = events.next().await {
            match event {
                // Health checks run a process in the container every few seconds.
                Ok(event) if matches!(&event.kind, EventKind::Other(what) if what.starts_with("exec_")) => {}
                Ok(event) => {
                    told = false;
                    debug!(replica = %event.key, kind = ?event.kind, "Docker tells.");
                    observer.containers.touch(&event.id);
                    bells.look.notify_one();
                }
                Err(error) => {
                    if !told {
                        warn!(error = in_one_line(&error), "Docker's events broke off; listening again.");
                        told = true;
                    }
                    break;
                }
            }
        }
        // Nothing is to be made by what the last one said of itself.
        observer.docker.disconnect();
        tokio::time::sleep(RETRY).await;
    }
}

async fn watch_images(observer: Arc<Observer>, bells: Arc<Bells>) {
    loop {
        let mut images = observer.docker.images();
        while let Some(Ok(())) = images.next().await {
            bells.images.notify_one();
        }
        // Why it broke off is told by the watch of containers.
        tokio::time::sleep(RETRY).await;
    }
}

async fn watch_kernel(observer: Arc<Observer>, bells: Arc<Bells>) {
    loop {
        match Netlink::changes() {
            Ok(mut changes) => {
                while let Some(change) = changes.next().await {
                    ring(&change, &observer.config, &bells);
                }
            }
            Err(error) => warn!(error = in_one_line(&error), "Cannot watch the kernel's links; trying again."),
        }
        tokio::time::sleep(RETRY).await;
        bells.look.notify_one();
    }
}

/// How things are inside the containers' namespaces. Where the kernel does not tell, they are looked into each time.
async fn watch_containers(observer: Arc<Observer>, bells: Arc<Bells>) {
    loop {
        match netlink::elsewhere() {
            Ok(mut changes) => {
                observer.insides.forget(true);
                bells.pair.notify_one();
                while let Some(change) = changes.next().await {
                    match change {
                        Elsewhere::Namespace(number) => observer.insides.touch(number),
                        Elsewhere::Overrun => observer.insides.forget(true),
                    }
                    bells.pair.notify_one();
                }
            }
            Err(error) => debug!(error = in_one_line(&error), "The kernel does not tell of changes in containers."),
        }
        observer.insides.forget(false);
        tokio::time::sleep(UNTOLD_RETRY).await;
    }
}

async fn watch_firewall(bells: Arc<Bells>) {
    loop {
        match egress::changes() {
            Ok(mut changes) => {
                while let Some(()) = changes.next().await {
                    bells.ground.notify_one();
                }
            }
            Err(error) => debug!(%error, "The kernel does not tell of changes of the firewall."),
        }
        bells.ground.notify_one();
        tokio::time::sleep(UNTOLD_RETRY).await;
    }
}

/// Replicas that are well or no longer so, those whose last connection ended, and paths that take other packets.
async fn watch_senses(observer: Arc<Observer>, bells: Arc<Bells>) {
    loop {
        tokio::select! {
            () = observer.drains.changed() => {}
            () = observer.probes.changed() => {}
            () = observer.paths.changed() => {}
        }
        bells.look.notify_one();
    }
}

fn ring(change: &Change, config: &Config, bells: &Bells) {
    match change {
        Change::Link { name, .. } | Change::LinkGone { name, .. } => {
            if name.starts_with(VETH_PREFIX) {
                bells.look.notify_one();
            }
        }
        Change::DefaultRoute | Change::RouteGone | Change::Overrun => {
            bells.ground.notify_one();
            bells.look.notify_one();
        }
        Change::Neighbour(address) => {
            let ours = match address {
                IpAddr::V4(address) => config.container_pool4.contains(address),
                IpAddr::V6(address) => config.container_pool6.contains(address),
            };
            if ours {
                bells.pair.notify_one();
            }
        }
        Change::AddressGone => bells.ground.notify_one(),
        // What is added takes nothing of ours away; putting our own address again is told as well.
        Change::Address => {}
    }
}
