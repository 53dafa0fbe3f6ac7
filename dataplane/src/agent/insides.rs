//! The containers' sides as last seen: looked at again when the kernel tells of a change in there, or has another device.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;

use crate::model::ReplicaKey;
use crate::netlink::{Inside, Netns, Peek};

/// Each is looked at that often while the kernel tells of changes …
const FULL: Duration = Duration::from_secs(300);
/// … and that often while it does not.
const UNTOLD: Duration = Duration::from_secs(2);
/// Namespaces that are entered beside each other.
const PARALLEL: usize = 8;

/// What is known of them.
#[derive(Debug)]
pub(super) struct Insides {
    seen: tokio::sync::Mutex<BTreeMap<u64, Seen>>,
    news: Mutex<News>,
    peek: Option<Peek>,
}

impl Default for Insides {
    fn default() -> Self {
        Self { seen: tokio::sync::Mutex::default(), news: Mutex::default(), peek: Peek::new().ok() }
    }
}

#[derive(Debug)]
struct Seen {
    inside: Inside,
    number: Option<i32>,
    /// Of the device; none: it has to be looked at each time.
    digest: Option<u64>,
    at: Instant,
}

#[derive(Debug, Default)]
struct News {
    /// The kernel tells.
    told: bool,
    /// Anything may have happened.
    all: bool,
    /// Namespaces in which something happened, as this namespace numbers them.
    numbers: BTreeSet<i32>,
    /// Replicas whose sides were worked on.
    replicas: BTreeSet<ReplicaKey>,
}

/// A namespace to look into.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) key: ReplicaKey,
    pub(super) pid: u32,
    pub(super) inode: u64,
    /// As the host end's namespace numbers it; `None`: the host end leads elsewhere.
    pub(super) number: Option<i32>,
}

impl Insides {
    /// Something happened in the namespace of that number.
    pub(super) fn touch(&self, number: i32) {
        self.news().numbers.insert(number);
    }

    /// The agent itself did something in there.
    pub(super) fn touch_replica(&self, key: &ReplicaKey) {
        self.news().replicas.insert(key.clone());
    }

    /// Anything may have happened; `told`: from now on the kernel tells.
    pub(super) fn forget(&self, told: bool) {
        let mut news = self.news();
        (news.told, news.all) = (told, true);
    }

    /// What these places are like; those that are gone, or cannot be looked into, are left out.
    pub(super) async fn look(&self, places: Vec<Place>) -> BTreeMap<ReplicaKey, Inside> {
        let mut seen = self.seen.lock().await;
        // Taken before anything is looked at: what happens meanwhile is news for the next look.
        let (period, news) = {
            let mut news = self.news();
            let told = news.told;
            (if told { FULL } else { UNTOLD }, std::mem::replace(&mut *news, News { told, ..News::default() }))
        };
        let inodes: BTreeSet<u64> = places.iter().map(|place| place.inode).collect();
        seen.retain(|inode, known| !news.all && inodes.contains(inode) && known.at.elapsed() < period);
        let mut unseen = Vec::new();
        for place in &places {
            // Before it is looked at: what changes meanwhile has another one the next time.
            let digest = place.number.and_then(|number| self.peek.as_ref()?.digest(number).ok());
            let touched =
                news.replicas.contains(&place.key) || place.number.is_none_or(|number| news.numbers.contains(&number));
            let known = |seen: &Seen| seen.number == place.number && digest.is_some() && seen.digest == digest;
            if touched || !seen.get(&place.inode).is_some_and(known) {
                seen.remove(&place.inode);
                unseen.push(async move { (place, digest, enter(place).await) });
            }
        }
        let mut looks = futures_util::stream::iter(unseen).buffer_unordered(PARALLEL);
        while let Some((place, digest, inside)) = looks.next().await {
            if let Some(inside) = inside {
                seen.insert(place.inode, Seen { inside, number: place.number, digest, at: Instant::now() });
            }
        }
        drop(looks);
        let known = places.into_iter().filter_map(|place| {
            let known = seen.get(&place.inode)?;
            Some((place.key, known.inside.clone()))
        });
        known.collect()
    }

    fn news(&self) -> MutexGuard<'_, News> {
        // A panic while it is held leaves no half-written entry.
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A namespace that is not the one it was is nobody's business here: Docker tells of that.
async fn enter(place: &Place) -> Option<Inside> {
    let netns = Netns::of_pid(place.pid).ok().filter(|netns| netns.inode() == place.inode)?;
    netns.inside().await.ok()
}
