//! Nobody is sent to containers that ended: heard beside the agent's turns, which may wait for Docker (that keeps a
//! container to itself while it cleans up), for the disk, or for the programs of the firewall.

use std::sync::Arc;

use tokio::sync::watch;
use tracing::{info, warn};

use super::apply::Hands;
use super::error::in_one_line;
use super::plan;
use super::records::Seen;
use super::wake::Bells;

/// Withdraws them as they end, for as long as it is polled; `seen` is what the agent saw last.
pub(super) async fn watch(hands: Arc<Hands>, seen: watch::Receiver<Option<Seen>>, bells: Arc<Bells>) {
    loop {
        hands.eyes.lives.death().await;
        let last = seen.borrow().clone();
        if let Some((desired, observed)) = last {
            for op in plan::withdraw(&desired, &observed, &hands.eyes.lives.ended()) {
                match hands.apply(&op, &desired, &observed).await {
                    Ok(()) => info!("{op}"),
                    Err(error) => warn!(error = in_one_line(&error), "Could not {op}; looking again."),
                }
            }
        }
        bells.look.notify_one();
    }
}
