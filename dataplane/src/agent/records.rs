//! What the agent remembers between two looks, and what it writes to the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{info, warn};

use super::carry::Carried;
use super::desired::{Desired, Node};
use super::error::{AgentError, in_one_line};
use super::observed::Observed;
use super::op::Step;
use super::status::{self, Progress, Work};
use super::unknown::unknown;
use super::view::View;
use crate::model::{Ack, ReplicaAssignment, ReplicaKey, ReplicaState, ReplicaStatus, TunnelRecord};
use crate::store::{Store, Txn, schema};

/// First and longest pause before a failed replica is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A replica whose last attempt failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: String,
    pub(super) attempts: u32,
    retry: Instant,
    /// What was attempted: another assignment is tried at once.
    assignment: Option<Arc<ReplicaAssignment>>,
}

/// What was wanted, and what was there, at one look.
pub(super) type Seen = (Arc<Desired>, Arc<Observed>);

/// The agent's memory.
pub(super) struct Records {
    store: Arc<dyn Store>,
    view: View,
    /// The view has been read.
    begun: bool,
    node: Node,
    busy: BTreeMap<ReplicaKey, Progress>,
    failures: BTreeMap<ReplicaKey, Failure>,
    written: BTreeMap<ReplicaKey, ReplicaStatus>,
    acknowledged: Option<Ack>,
    /// Connections that ended with the replica they were to.
    cut: BTreeMap<ReplicaKey, u32>,
    last: Option<Seen>,
    /// The same, for others to follow.
    told: watch::Sender<Option<Seen>>,
    /// Nothing was to be done about `last`.
    content: bool,
    noted: Option<String>,
    retry: Option<Instant>,
}

impl Records {
    pub(super) fn new(store: Arc<dyn Store>, node: Node) -> Self {
        Self {
            view: View::new(Arc::clone(&store), node.clone()),
            begun: false,
            store,
            node,
            busy: BTreeMap::new(),
            failures: BTreeMap::new(),
            written: BTreeMap::new(),
            acknowledged: None,
            cut: BTreeMap::new(),
            last: None,
            told: watch::Sender::new(None),
            content: false,
            noted: None,
            retry: None,
        }
    }

    /// What the store says this node should be.
    pub(super) async fn desired(&mut self) -> Result<Arc<Desired>, AgentError> {
        self.retry = None;
        let desired = self.view.desired().await?;
        if !std::mem::replace(&mut self.begun, true) {
            self.written = self.view.told_before().unwrap_or_default();
        }
        Ok(desired)
    }

    /// Whether a replica was well when its status was written last.
    pub(super) fn was_well(&self, key: &ReplicaKey) -> bool {
        self.written.get(key).is_some_and(|status| status.state == ReplicaState::Running)
    }

    /// Whether there is nothing to be done because there was nothing the last time, and nothing has changed since.
    pub(super) fn is_content(&self, desired: &Arc<Desired>, observed: &Observed) -> bool {
        let same = |(wanted, seen): &(Arc<Desired>, Arc<Observed>)| Arc::ptr_eq(wanted, desired) && **seen == *observed;
        self.content && !self.any_busy() && self.last.as_ref().is_some_and(same)
    }

    /// Refuses to decide about replicas that the store does not know.
    pub(super) async fn refuse_unknown(&self, observed: &Observed) -> Result<(), AgentError> {
        let here = observed.sandboxes.keys().chain(observed.workloads.keys()).cloned().collect();
        let replicas = unknown(self.store.as_ref(), &self.node.name, &here).await?;
        if replicas.is_empty() { Ok(()) } else { Err(AgentError::Unknown { replicas }) }
    }

    pub(super) fn is_busy(&self, key: &ReplicaKey) -> bool {
        self.busy.contains_key(key)
    }

    pub(super) fn any_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Whether work on the replica may begin: nobody is at it, and it did not fail just now.
    pub(super) fn is_free(&self, key: &ReplicaKey, assignment: Option<&Arc<ReplicaAssignment>>) -> bool {
        let waits = self
            .failures
            .get(key)
            .is_some_and(|failure| failure.retry > Instant::now() && failure.assignment.as_ref() == assignment);
        !self.is_busy(key) && !waits
    }

    pub(super) fn busy(&mut self, key: ReplicaKey, steps: &[Step]) {
        let state = match steps.first() {
            Some(Step::Pull(_)) => ReplicaState::Pulling,
            Some(Step::StopWorkload | Step::RemoveWorkload | Step::RemoveSandbox) => ReplicaState::Stopping,
            _ => ReplicaState::Starting,
        };
        self.busy.insert(key, Progress { state, message: None, cut: 0 });
    }

    pub(super) fn progress(&mut self, key: &ReplicaKey, progress: Progress) {
        if progress.cut > 0 {
            *self.cut.entry(key.clone()).or_default() += progress.cut;
        }
        // A late message of a chain that has ended means nothing.
        if let Some(entry) = self.busy.get_mut(key) {
            *entry = progress;
        }
    }

    pub(super) fn done(&mut self, key: &ReplicaKey) {
        self.busy.remove(key);
        self.failures.remove(key);
    }

    pub(super) fn failed(&mut self, key: &ReplicaKey, error: &str) -> &Failure {
        self.busy.remove(key);
        let assignment = self.last.as_ref().and_then(|(desired, _)| desired.replicas.get(key).cloned());
        let attempts = self.failures.get(key).map_or(0, |failure| failure.attempts) + 1;
        let pause = BACKOFF.0.saturating_mul(1 << (attempts - 1).min(10)).min(BACKOFF.1);
        let failure = Failure { error: error.to_owned(), attempts, retry: Instant::now() + pause, assignment };
        self.failures.entry(key.clone()).insert_entry(failure).into_mut()
    }

    /// Tells people of an error that no replica has; the same one again is not told again.
    pub(super) fn note(&mut self, what: &str, error: &AgentError) {
        let line = format!("{what}: {}", in_one_line(error));
        if self.noted.as_ref() != Some(&line) {
            warn!(error = line, "Trying again.");
            self.noted = Some(line);
        }
        self.retry = Some(Instant::now() + BACKOFF.0);
    }

    /// A look without an error.
    pub(super) fn well(&mut self) {
        if self.retry.is_none() && self.noted.take().is_some() {
            info!("All is well again.");
        }
    }

    /// When the next look is due because of a failure.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        let idle = self.failures.iter().filter(|(key, _)| !self.busy.contains_key(key));
        idle.map(|(_, failure)| failure.retry).chain(self.retry).min()
    }

    /// Has everything that failed tried again at once.
    pub(super) fn forgive(&mut self) {
        for failure in self.failures.values_mut() {
            failure.retry = Instant::now();
        }
    }

    /// What was wanted and what was seen the last time all was looked at.
    pub(super) fn last(&self) -> Option<&Seen> {
        self.last.as_ref()
    }

    /// The same, whenever somebody asks.
    pub(super) fn follow(&self) -> watch::Receiver<Option<Seen>> {
        self.told.subscribe()
    }

    /// Both are remembered; `content`: nothing was to be done about them, and all that was to be written is.
    pub(super) fn seen(&mut self, desired: Arc<Desired>, observed: Arc<Observed>, content: bool) {
        self.failures.retain(|key, _| desired.replicas.contains_key(key) || self.written.contains_key(key));
        // A status that tells of work or of a failure is another one as soon as that is over.
        self.content = content && !self.any_busy() && self.failures.is_empty();
        self.last = Some((desired, observed));
        self.told.send_replace(self.last.clone());
    }

    /// Writes how this node is reached, the status of every replica, and takes away those of which nothing is left.
    pub(super) async fn write(
        &mut self,
        desired: &Desired,
        observed: &Observed,
        steps: &BTreeMap<ReplicaKey, Vec<Step>>,
        carried: Carried,
        tunnel: Option<TunnelRecord>,
    ) -> Result<(), AgentError> {
        let mut txn = Txn::default();
        if let Some(tunnel) = tunnel.filter(|tunnel| desired.tunnel.as_ref() != Some(tunnel)) {
            txn = txn.put(&schema::tunnel(&self.node.name), &tunnel)?;
        }
        let mut statuses = self.statuses(desired, observed);
        let leaving = |key: &&ReplicaKey| !desired.replicas.contains_key(*key);
        let gone: BTreeSet<ReplicaKey> = self
            .written
            .keys()
            .filter(leaving)
            .filter(|key| carried.out && !steps.contains_key(*key) && !self.is_busy(key))
            .cloned()
            .collect();
        statuses.retain(|key, _| !gone.contains(key));
        for key in &gone {
            txn = txn.delete(&schema::status(&self.node.name, key));
        }
        let before = self.acknowledged.unwrap_or(Ack { services: 0, tunnels: 0 });
        let services = if carried.out { desired.revision } else { before.services };
        let tunnels = if carried.tunnels { desired.tunnels } else { before.tunnels };
        let ack = Ack { services, tunnels };
        let ack = Some(ack).filter(|_| self.acknowledged.map_or(carried.out, |before| before != ack));
        if let Some(ack) = &ack {
            txn = txn.put(&schema::ack(&self.node.name), ack)?;
        }
        self.put(txn, statuses).await?;
        self.acknowledged = ack.or(self.acknowledged);
        self.cut.retain(|key, _| self.written.contains_key(key));
        Ok(())
    }

    /// Writes again what was told since.
    pub(super) async fn rewrite(&mut self) -> Result<(), AgentError> {
        let Some((desired, observed)) = self.last.clone() else { return Ok(()) };
        let statuses = self.statuses(&desired, &observed);
        self.put(Txn::default(), statuses).await
    }

    fn statuses(&self, desired: &Desired, observed: &Observed) -> BTreeMap<ReplicaKey, ReplicaStatus> {
        let work = |key: &ReplicaKey| Work {
            progress: self.busy.get(key),
            failure: self.failures.get(key).map(|failure| failure.error.as_str()),
            attempts: self.failures.get(key).map_or(0, |failure| failure.attempts),
            cut: self.cut.get(key).copied().or_else(|| Some(self.written.get(key)?.cut)).unwrap_or(0),
        };
        let leaving = self.written.iter().filter(|(key, _)| !desired.replicas.contains_key(key));
        let leaving = leaving.map(|(key, _)| (key.clone(), status::of_leaving(key, desired, observed, &work(key))));
        let assigned = desired.replicas.iter().map(|(key, replica)| {
            let status = status::of(replica, desired, observed, &work(key));
            (key.clone(), status::told_before(status, self.written.get(key)))
        });
        leaving.chain(assigned).collect()
    }

    async fn put(&mut self, mut txn: Txn, statuses: BTreeMap<ReplicaKey, ReplicaStatus>) -> Result<(), AgentError> {
        for (key, status) in &statuses {
            if self.written.get(key) != Some(status) {
                txn = txn.put(&schema::status(&self.node.name, key), status)?;
            }
        }
        if !txn.then.is_empty() {
            self.store.txn(txn).await?;
        }
        self.written = statuses;
        Ok(())
    }
}
