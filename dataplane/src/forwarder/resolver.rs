use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::watch;
use tracing::{info, warn};

use super::cache::Cache;
use super::message::{Key, Reply};
use super::upstream::Upstream;

/// Questions that may be on their way to the host's name servers at once; each has a socket.
const ASKING_MAX: usize = 256;

/// What became of a question: not known yet, or an answer, or none.
type Outcome = Option<Option<Arc<Reply>>>;

/// What the outside says: from the cache, or asked once for everybody who waits for the same.
#[derive(Debug)]
pub(super) struct Resolver {
    upstream: Upstream,
    cache: Cache,
    asking: Mutex<HashMap<Key, watch::Receiver<Outcome>>>,
    failing: AtomicBool,
}

impl Resolver {
    pub(super) fn new(upstream: Upstream) -> Arc<Self> {
        Arc::new(Self { upstream, cache: Cache::default(), asking: Mutex::default(), failing: AtomicBool::new(false) })
    }

    /// The answer, or `None` when nobody gives one.
    pub(super) async fn resolve(self: &Arc<Self>, key: Key) -> Option<Arc<Reply>> {
        if let Some(reply) = self.cache.get(&key, Instant::now()) {
            return Some(Arc::new(reply));
        }
        let mut outcome = self.join(key)?;
        // An error means that whoever asked is gone without an outcome.
        outcome.wait_for(Option::is_some).await.ok()?.clone()?
    }

    /// Waits with those who ask already, or asks; `None` when too much is being asked.
    ///
    /// One question on the way per key also keeps a forger from collecting chances (RFC 5452 section 5).
    fn join(self: &Arc<Self>, key: Key) -> Option<watch::Receiver<Outcome>> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = asking.get(&key) {
            return Some(outcome.clone());
        }
        if asking.len() >= ASKING_MAX {
            return None;
        }
        let (tell, outcome) = watch::channel(None);
        asking.insert(key.clone(), outcome.clone());
        drop(asking);
        let resolver = Arc::clone(self);
        // A task of its own: it goes on when the client that began it has gone.
        tokio::spawn(async move { tell.send_replace(Some(resolver.ask(key).await)) });
        Some(outcome)
    }

    async fn ask(&self, key: Key) -> Option<Arc<Reply>> {
        let result = self.upstream.ask(&key).await;
        let reply = match result {
            Ok(reply) => {
                if self.failing.swap(false, Ordering::Relaxed) {
                    info!("Names of the outside resolve again.");
                }
                self.cache.put(key.clone(), &reply, Instant::now());
                Some(Arc::new(reply))
            }
            Err(error) => {
                // Once for each time that it begins: a thousand clients would say a thousand times the same.
                if !self.failing.swap(true, Ordering::Relaxed) {
                    warn!(%error, "Names of the outside do not resolve.");
                }
                None
            }
        };
        self.asking.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        reply
    }
}
