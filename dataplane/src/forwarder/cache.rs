use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::message::{Key, Reply};

/// How many answers a generation holds; two are kept.
const GENERATION: usize = 8192;
/// An answer with more records is not worth its room.
const RECORDS_MAX: usize = 64;

/// Answers, for as long as they may be used.
///
/// Two generations instead of a list by last use: what is asked for moves to the young one, and when that is full the old
/// one goes. Bounded, constant time, and a burst of names can displace others but not grow it.
///
/// Environments share it: what the outside says is the same for all of them.
#[derive(Debug, Default)]
pub(super) struct Cache {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Key, Arc<Entry>>,
    old: HashMap<Key, Arc<Entry>>,
}

#[derive(Debug)]
struct Entry {
    reply: Reply,
    since: Instant,
    until: Instant,
}

impl Cache {
    /// The answer with what is left of its times to live.
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<Reply> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = match generations.young.get(key) {
            Some(entry) => Arc::clone(entry),
            None => {
                let entry = generations.old.remove(key)?;
                generations.insert(key.clone(), Arc::clone(&entry));
                entry
            }
        };
        drop(generations);
        let age = now.saturating_duration_since(entry.since).as_secs();
        (now < entry.until).then(|| entry.reply.aged(u32::try_from(age).unwrap_or(u32::MAX)))
    }

    /// Keeps an answer for as long as it says.
    pub(super) fn put(&self, key: Key, reply: &Reply, now: Instant) {
        let ttl = reply.ttl();
        if ttl == 0 || reply.len() > RECORDS_MAX {
            return;
        }
        let until = now + Duration::from_secs(ttl.into());
        let entry = Arc::new(Entry { reply: reply.clone(), since: now, until });
        self.generations.lock().unwrap_or_else(PoisonError::into_inner).insert(key, entry);
    }
}

impl Generations {
    fn insert(&mut self, key: Key, entry: Arc<Entry>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, entry);
    }
}
