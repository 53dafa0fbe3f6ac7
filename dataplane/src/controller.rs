//! Intent → assignments: hands out ids, network bits and addresses, places replicas, numbers deployments.
//!
//! [`reconcile`] is pure: it takes one consistent step for one environment and returns it as one
//! transaction. Steps are taken until there is none left, so a crash between any two of them costs
//! nothing. [`run`] does that whenever something changes.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use futures_util::StreamExt;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use crate::clock::unix;
use crate::config::AbortAt;
use crate::failpoint::Failpoint;
use crate::model::{
    Condition, Deployment, DeploymentKey, DeploymentState, EnvironmentKey, EnvironmentSpec, NodeRecord, Pools,
    ReplicaKey,
};
use crate::secrets::Secrets;
use crate::store::schema::{self, Key, Subject, Versioned};
use crate::store::{Entry, Event, Leadership, Outcome, Store, StoreError, Txn, WatchStream, Write};

mod allocate;
mod clock;
mod deploy;
mod error;
mod office;
mod placement;
mod reconcile;
mod schedule;
mod state;

#[cfg(test)]
mod tests;

pub use clock::Clock;
use clock::Term;
pub use error::ControllerError;
pub use reconcile::{Next, reconcile};
pub use state::State;

/// The election that one controller wins.
const ELECTION: &str = "controller";
/// Everything is read again this often, should an event ever be missed. Rested addresses are found then, too.
const RESYNC: Duration = Duration::from_secs(60);
/// Pause after a failure of the store.
const RETRY: Duration = Duration::from_secs(1);

/// Assigns what the store's intents ask for, for as long as it is polled. Dropping it is safe at any time. `abort_at`
/// ends the process at a transaction, for tests.
pub async fn run(
    store: &dyn Store,
    secrets: &Secrets,
    pools: &Pools,
    candidate: &str,
    abort_at: Option<AbortAt>,
) -> Infallible {
    let failpoint = Failpoint::new(abort_at);
    let mut told = None;
    loop {
        if let Err(error) = lead(store, secrets, pools, candidate, &failpoint).await {
            // A disk stays full for a while: that is worth one line, not one a second.
            let kind = std::mem::discriminant(&error);
            if told.replace((kind, Instant::now())).is_none_or(|(k, at)| k != kind || at.elapsed() > 2 * RETRY) {
                warn!(%error, "The controller stopped; it starts again as soon as it can.");
            }
            sleep(RETRY).await;
        }
    }
}

/// From winning the campaign to the first error or lost office. Only a node of the role `control` holds it.
async fn lead(
    store: &dyn Store,
    secrets: &Secrets,
    pools: &Pools,
    candidate: &str,
    failpoint: &Failpoint,
) -> Result<(), ControllerError> {
    office::until(store, candidate, true).await?;
    let leadership = store.campaign(ELECTION, candidate).await?;
    tokio::select! {
        // Asked first: the role may have gone while it was a candidate.
        biased;
        gone = office::until(store, candidate, false) => {
            gone?;
            Ok(office::resign(store, &leadership, candidate).await?)
        }
        ended = govern(store, secrets, pools, &leadership, failpoint) => ended,
    }
}

/// Assigns what is to be, until the office is lost.
async fn govern(
    store: &dyn Store,
    secrets: &Secrets,
    pools: &Pools,
    leadership: &Leadership,
    failpoint: &Failpoint,
) -> Result<(), ControllerError> {
    let mut term = Term::begin();
    let mut absent = BTreeMap::new();
    while leads(store, leadership).await? {
        let mut state = State::load(store).await?;
        let watch = store.watch("/", state.revision).await?;
        // Who was away already is so for as long as this controller has seen it.
        state.absent = std::mem::take(&mut absent);
        state.note_absences(term.clock().now);
        let dirty = state.keys();
        let mut controller = Controller {
            store,
            secrets,
            pools,
            leadership,
            failpoint,
            term,
            state,
            watch,
            dirty,
            due: BTreeMap::new(),
        };
        let ended = controller.until(Instant::now() + RESYNC).await;
        (absent, term) = (controller.state.absent, controller.term);
        match ended {
            Ok(()) | Err(ControllerError::Store(StoreError::Compacted { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn leads(store: &dyn Store, leadership: &Leadership) -> Result<bool, StoreError> {
    Ok(store.get(&leadership.key).await?.is_some_and(|entry| entry.revision == leadership.revision))
}

struct Controller<'a> {
    store: &'a dyn Store,
    secrets: &'a Secrets,
    pools: &'a Pools,
    leadership: &'a Leadership,
    failpoint: &'a Failpoint,
    term: Term,
    state: State,
    watch: WatchStream,
    /// Environments to look at.
    dirty: BTreeSet<EnvironmentKey>,
    /// And when to look at others, whatever happens.
    due: BTreeMap<EnvironmentKey, Instant>,
}

impl Controller<'_> {
    /// Works until it is time to read everything again, or the view turned out to be stale.
    async fn until(&mut self, resync: Instant) -> Result<(), ControllerError> {
        loop {
            while let Some(key) = self.dirty.pop_first() {
                if !self.settle(&key).await? {
                    return Ok(());
                }
            }
            let until = self.due.values().min().map_or(resync, |next| resync.min(*next));
            match timeout_at(until, self.event()).await {
                Ok(seen) => seen?,
                Err(_) if resync <= Instant::now() => return Ok(()),
                Err(_) => {
                    self.dirty.extend(self.due.extract_if(.., |_, due| *due <= Instant::now()).map(|(key, _)| key))
                }
            }
        }
    }

    /// Takes every step there is for an environment; false after a conflict.
    async fn settle(&mut self, key: &EnvironmentKey) -> Result<bool, ControllerError> {
        if let Some(intent) = self.state.intents.get(key) {
            // Before there is a replica that would begin without.
            let begun = self.state.services_of(key).map(|service| service.value.key.service.clone()).collect();
            self.secrets.complete(&intent.value, &begun, self.leadership.compare()).await?;
        }
        loop {
            let clock = self.term.clock();
            let Next { mut txn, due, next_run } = reconcile(&self.state, self.pools, key, clock)?;
            match [due, next_run].into_iter().flatten().min() {
                Some(due) => {
                    let wait = Duration::from_millis(due.saturating_sub(clock.now)).min(RESYNC);
                    self.due.insert(key.clone(), Instant::now() + wait)
                }
                None => self.due.remove(key),
            };
            if txn.then.is_empty() {
                return Ok(true);
            }
            txn.compare.push(self.leadership.compare());
            let writes = txn.then.len();
            let number = self.failpoint.before(key);
            let Outcome::Committed(revision) = self.store.txn(txn).await? else { return Ok(false) };
            self.failpoint.after(number, key);
            info!(environment = %key, writes, "Assigned.");
            // The state changes by the watch alone: one way in, always in the store's order.
            while self.state.revision < revision {
                self.event().await?;
            }
        }
    }

    async fn event(&mut self) -> Result<(), StoreError> {
        let Some(events) = self.watch.next().await else {
            return Err(StoreError::Compacted { after: self.state.revision, kept: self.state.revision });
        };
        for event in events? {
            self.state.apply(&event)?;
            match Subject::of(event.key()) {
                Some(Subject::Intent(key)) => drop(self.dirty.insert(key)),
                Some(Subject::Replica(_, key)) => drop(self.dirty.insert(key.service.environment)),
                // How a replica fares is of interest while something becomes of it; that a node has it no longer always.
                Some(Subject::Status(_, key)) if matches!(event, Event::Delete { .. }) || self.is_moving(&key) => {
                    self.dirty.insert(key.service.environment);
                }
                Some(Subject::OneOff(key)) => drop(self.dirty.insert(key.service.environment)),
                Some(Subject::Deployment(key)) => drop(self.dirty.insert(key.service.environment)),
                Some(Subject::Ack(_)) => {
                    let open = self.state.deployments.values().filter(|deployment| deployment.value.is_open());
                    self.dirty.extend(open.map(|deployment| deployment.value.key.service.environment.clone()));
                }
                Some(Subject::Environment(key)) => drop(self.dirty.insert(key)),
                Some(Subject::Service(key)) => drop(self.dirty.insert(key.environment)),
                // These may be what another environment waits for.
                Some(Subject::Vips | Subject::Addresses(_)) => {
                    self.dirty.extend(self.state.conditions.keys().cloned());
                }
                // What it has waits for it, or is to go elsewhere; or it takes now what nobody took.
                Some(Subject::Presence(_) | Subject::Node(_) | Subject::NodeIntent(_)) => {
                    self.state.note_absences(self.term.clock().now);
                    self.dirty.extend(self.state.keys());
                }
                Some(
                    Subject::Status(..)
                    | Subject::Condition(_)
                    | Subject::Ids
                    | Subject::Prefixes
                    | Subject::Secret(_)
                    | Subject::Login(_)
                    | Subject::Content(..)
                    | Subject::Runs(_)
                    | Subject::Discard(_)
                    | Subject::Pulled(_)
                    | Subject::Tunnel(_)
                    | Subject::Admission(_)
                    | Subject::Invitation(_)
                    | Subject::Volume(_),
                )
                | None => {}
            }
        }
        Ok(())
    }
}

impl Controller<'_> {
    /// Whether the replica is about to end, is a run, or its deployment has not come to a good end.
    fn is_moving(&self, key: &ReplicaKey) -> bool {
        let state = |of: &Versioned<Deployment>| of.value.state;
        self.state.replicas.get(key).is_some_and(|replica| replica.value.ending || replica.value.is_run())
            || self.state.deployments_of(&key.service).any(|of| {
                matches!(state(of), DeploymentState::Queued | DeploymentState::Deploying | DeploymentState::Failed)
            })
    }
}

/// Shows `stage` what would be assigned one after the other if `key` were asked to be `spec` ([`None`]: to be gone)
/// and all went well; the last of it is what stays. Nothing is written.
///
/// # Errors
/// [`ControllerError::Condition`] when the intent can't be assigned as things are; whatever `stage` refuses.
pub fn preview(
    mut state: State,
    pools: &Pools,
    key: &EnvironmentKey,
    spec: Option<EnvironmentSpec>,
    mut stage: impl FnMut(&State) -> Result<(), ControllerError>,
) -> Result<(), ControllerError> {
    match spec {
        Some(value) => {
            let revision = state.revision;
            state.intents.insert(key.clone(), Versioned { value, revision });
        }
        None => drop(state.intents.remove(key)),
    }
    let failed = |state: &State| -> BTreeMap<DeploymentKey, String> {
        let all = state.deployments.values().map(|deployment| &deployment.value);
        all.filter_map(|deployment| Some((deployment.key.clone(), deployment.reason.clone()?))).collect()
    };
    let failed_before = failed(&state);
    let wall = Clock::at(unix());
    let mut now = wall.now;
    loop {
        let Next { txn, due, .. } = reconcile(&state, pools, key, Clock { now, ..wall })?;
        if !txn.then.is_empty() {
            for write in txn.then {
                state.apply(&imagined(write, state.revision))?;
            }
            continue;
        }
        if let Some(condition) = state.conditions.remove(key) {
            return Err(ControllerError::Condition(condition.value));
        }
        if let Some((_, message)) = failed(&state).into_iter().find(|failed| !failed_before.contains_key(&failed.0)) {
            let remedy = "mend that, and try again".into();
            return Err(ControllerError::Condition(Condition { message, remedy }));
        }
        let waits = state.turn_out_well(key);
        stage(&state)?;
        now = match due {
            Some(due) => due.max(now),
            None if waits => now,
            None => return Ok(()),
        };
    }
}

/// The event that a write would bring.
fn imagined(write: Write, revision: u64) -> Event {
    match write {
        Write::Put { key, value, lease } => Event::Put(Entry { key, value, revision, lease }),
        Write::Delete(key) => Event::Delete { key, revision },
    }
}

/// Returns this node's record, made if it has none.
///
/// # Errors
/// [`ControllerError::Condition`] when the pools have no prefix left, [`ControllerError::Store`] when the
/// store can't be read or written.
pub async fn register(store: &dyn Store, pools: &Pools, name: &str) -> Result<NodeRecord, ControllerError> {
    loop {
        let state = State::load(store).await?;
        if let Some(record) = state.nodes.get(name) {
            return Ok(record.value.clone());
        }
        let mut allocator = allocate::Allocator::new(&state, pools, Clock::at(unix()));
        let record = allocator.node(name).map_err(ControllerError::Condition)?;
        let mut txn = Txn::default();
        set(&mut txn, &schema::node(name), None, Some(&record))?;
        allocator.finish(&mut txn)?;
        if let Outcome::Committed(_) = store.txn(txn).await? {
            info!(node = name, id = record.id, prefixes4 = ?record.prefixes4, prefix6 = %record.prefix6, "Registered.");
            return Ok(record);
        }
    }
}

/// Adds a change to a transaction, with the compare that protects it; nothing if there is no change.
fn set<T: PartialEq + Serialize>(
    txn: &mut Txn,
    key: &Key<T>,
    before: Option<&Versioned<T>>,
    after: Option<&T>,
) -> Result<(), StoreError> {
    if before.map(|before| &before.value) == after {
        return Ok(());
    }
    let changed = std::mem::take(txn).when(key, before.map(|before| before.revision));
    *txn = match after {
        Some(value) => changed.put(key, value)?,
        None => changed.delete(key),
    };
    Ok(())
}
