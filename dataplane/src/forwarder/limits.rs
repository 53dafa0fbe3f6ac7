use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// So much at once in all, and so much for each client: one client cannot take all the room.
#[derive(Debug)]
pub(super) struct Limits<C> {
    total_max: usize,
    client_max: usize,
    taken: Mutex<Taken<C>>,
}

#[derive(Debug)]
struct Taken<C> {
    total: usize,
    clients: HashMap<C, usize>,
}

/// Room for one, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit<C: Copy + Eq + Hash> {
    limits: Arc<Limits<C>>,
    client: C,
}

impl<C: Copy + Eq + Hash> Limits<C> {
    pub(super) fn new(total_max: usize, client_max: usize) -> Arc<Self> {
        let taken = Mutex::new(Taken { total: 0, clients: HashMap::new() });
        Arc::new(Self { total_max, client_max, taken })
    }

    /// Room for one more, if there is any.
    pub(super) fn take(self: &Arc<Self>, client: C) -> Option<Permit<C>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = taken.clients.get(&client).copied().unwrap_or(0);
        if taken.total >= self.total_max || of_client >= self.client_max {
            return None;
        }
        taken.total += 1;
        taken.clients.insert(client, of_client + 1);
        Some(Permit { limits: Arc::clone(self), client })
    }
}

impl<C: Copy + Eq + Hash> Drop for Permit<C> {
    fn drop(&mut self) {
        let mut taken = self.limits.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        if let Some(count) = taken.clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                taken.clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_leaves_room_for_another() {
        let limits = Limits::new(3, 2);
        let first = limits.take(1).unwrap();
        let _second = limits.take(1).unwrap();
        assert!(limits.take(1).is_none());
        let _other = limits.take(2).unwrap();
        assert!(limits.take(3).is_none(), "the total holds as well");
        drop(first);
        assert!(limits.take(1).is_some());
    }
}
