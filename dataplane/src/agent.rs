//! The part of the daemon that makes this node what the controller assigned, and writes what came of it.
//!
//! It watches first, then looks at everything, then plans ([`plan()`], a pure function) and does what the plan says;
//! after that each event, and a timer, bring the next look. A replica that is being worked on is left out of the next
//! plans until its steps are done.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tracing::{debug, info, warn};

mod apply;
mod carry;
mod containers;
pub mod desired;
pub mod drain;
mod error;
mod foreign;
pub mod health;
mod insides;
mod lives;
mod mesh;
pub mod names;
mod node;
mod observe;
pub mod observed;
pub mod op;
mod paths;
mod plan;
pub mod predict;
mod records;
mod rotation;
mod status;
pub mod tables;
mod task;
mod unknown;
mod view;
mod wake;
mod withdraw;

pub use desired::Desired;
pub use error::{AgentError, in_one_line};
pub use foreign::{Foreign, Reports};
pub use node::Ground;
pub use observe::Observer;
pub use observed::Observed;
pub use op::Op;
pub use paths::Path;
pub use plan::plan;
pub(crate) use unknown::unknown;

use apply::Hands;
use desired::Node;
use op::Step;
use records::{Failure, Records};
use status::Progress;
use wake::Bells;

use crate::bpf::Generations;
use crate::docker::DockerError;
use crate::failpoint::Failpoint;
use crate::model::{NodeRecord, ReplicaKey};
use crate::netlink::HostSide;
use crate::secrets::Secrets;
use crate::store::Store;

/// The kernel is looked at again that often, event or not: whatever nobody told of is put right within five seconds.
const LOOK: Duration = Duration::from_secs(3);
/// Between the news that routes, addresses or rules changed and the repair: a program that fights us for them must not
/// keep this one busy.
const PAUSE: Duration = Duration::from_millis(200);
/// Replicas worked on beside each other: each waits for Docker most of the time.
const PARALLEL: usize = 8;

/// The agent of one node.
pub struct Agent {
    store: Arc<dyn Store>,
    hands: Arc<Hands>,
    ground: Ground,
    bells: Arc<Bells>,
    records: Records,
    progress: mpsc::UnboundedReceiver<(ReplicaKey, Progress)>,
    chains: JoinSet<Done>,
    /// Whose steps each task of `chains` does.
    working: HashMap<Id, ReplicaKey>,
    slots: Arc<Semaphore>,
    looked: Option<oneshot::Sender<()>>,
    settled: bool,
    /// The last complaint about the ground, which is not repeated.
    grumbled: String,
}

/// How the steps of a replica ended; a failure with the step's line.
type Done = Result<(), (String, AgentError)>;

/// What the clock brings.
struct Due {
    resync: Instant,
    ground: Option<Instant>,
    pair: Option<Instant>,
}

impl Agent {
    /// An agent of `node`, which looks through `observer`.
    ///
    /// # Errors
    /// [`AgentError::Bpf`] when the pinned backend sets cannot be read.
    pub fn new(
        store: Arc<dyn Store>,
        observer: Arc<Observer>,
        ground: Ground,
        record: &NodeRecord,
        secrets: Arc<Secrets>,
    ) -> Result<Self, AgentError> {
        let generations = Generations::adopt(&observer.maps, Instant::now())?;
        let node = Node { name: record.name.clone(), id: record.id, config: Arc::clone(&observer.config) };
        let (sender, progress) = mpsc::unbounded_channel();
        let hands = Hands {
            failpoint: Failpoint::new(observer.config.abort_at),
            eyes: observer,
            generations: Mutex::new(generations),
            progress: sender,
            pulls: Default::default(),
            secrets,
            store: Arc::clone(&store),
        };
        Ok(Self {
            records: Records::new(Arc::clone(&store), node),
            store,
            hands: Arc::new(hands),
            ground,
            bells: Arc::default(),
            progress,
            chains: JoinSet::new(),
            working: HashMap::new(),
            slots: Arc::new(Semaphore::new(PARALLEL)),
            looked: None,
            settled: false,
            grumbled: String::new(),
        })
    }

    /// Comes true after the first look, well or ill: from then on the store's statuses are of today.
    pub fn first_look(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.looked = Some(sender);
        receiver
    }

    /// Works for as long as it is polled. Dropping it is safe at any time: the next one goes on from what it finds.
    ///
    /// # Errors
    /// [`AgentError::Store`] when the store cannot be read at all at the start.
    pub async fn run(mut self) -> Result<Infallible, AgentError> {
        if let Err(error) = self.hands.eyes.tunnel.remove_others().await {
            warn!(error = in_one_line(&error), "Cannot take away tunnels of other names.");
        }
        let after = self.store.range("/nodes/").await?.revision;
        let mut sources = wake::watch(Arc::clone(&self.store), after, &self.hands.eyes, &self.bells);
        let bells = Arc::clone(&self.bells);
        sources.spawn(withdraw::watch(Arc::clone(&self.hands), self.records.follow(), Arc::clone(&bells)));
        let mut due = Due { resync: Instant::now() + LOOK, ground: None, pair: None };
        let (mut ground, mut look) = (false, true);
        loop {
            if ground || look {
                self.turn(ground, look).await;
            }
            ground = false;
            let prune = self.hands.generations.lock().await.next_due();
            let retry = self.records.next_retry();
            let next = [due.ground, due.pair, retry, prune].into_iter().flatten().fold(due.resync, Instant::min);
            look = tokio::select! {
                () = bells.look.notified() => true,
                () = bells.images.notified() => {
                    self.records.forgive();
                    true
                }
                () = bells.ground.notified() => {
                    due.ground.get_or_insert(Instant::now() + PAUSE);
                    false
                }
                () = bells.pair.notified() => {
                    due.pair.get_or_insert(Instant::now() + PAUSE);
                    false
                }
                Some((key, progress)) = self.progress.recv() => {
                    self.tell(key, progress).await;
                    false
                }
                Some(done) = self.chains.join_next_with_id() => {
                    self.finish(done);
                    true
                }
                () = tokio::time::sleep_until(next.into()) => {
                    self.prune().await;
                    let now = Instant::now();
                    let resync = due.resync <= now;
                    ground = resync || due.ground.is_some_and(|at| at <= now);
                    if ground {
                        due.ground = None;
                    }
                    if resync {
                        due.resync = now + LOOK;
                    }
                    let pair = due.pair.take_if(|at| *at <= now).is_some();
                    resync || pair || retry.is_some_and(|at| at <= now)
                }
            };
        }
    }

    /// Sees to the ground, looks at everything, or both, out of one picture of the host's side.
    async fn turn(&mut self, ground: bool, look: bool) {
        let done = match self.hands.eyes.host_side().await {
            Ok(host) => {
                if ground {
                    self.ensure_ground(&host).await;
                }
                if look { self.look(host).await.map(|()| self.records.well()) } else { Ok(()) }
            }
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            self.records.note("looking at this node", &error);
        }
        if look {
            // Nobody need be waiting for it.
            let _unheard = self.looked.take().map(|looked| looked.send(()));
        }
    }

    /// Looks at everything, plans, does what concerns the node, and sets replicas to work.
    async fn look(&mut self, host: HostSide) -> Result<(), AgentError> {
        let eyes = Arc::clone(&self.hands.eyes);
        let desired = self.records.desired().await?;
        let (told, mut silent) = match eyes.docker_tells().await {
            Ok(told) => (told, None),
            Err(AgentError::Docker(error @ DockerError::Unavailable { .. })) => {
                (eyes.docker_told(self.records.last().map(|(_, observed)| observed.as_ref())).await, Some(error))
            }
            Err(error) => return Err(error),
        };
        let mut observed = eyes.kernel_tells(host, &desired, told).await?;
        observed.tables.loose = self.hands.generations.lock().await.loose(&eyes.maps)?;
        eyes.follow(&desired, &observed, |key| self.records.was_well(key));
        eyes.senses(&desired, &mut observed);
        let tunnel = eyes.reached_by(&desired, &observed);
        if silent.is_none() {
            if tunnel == desired.tunnel && self.records.is_content(&desired, &observed) {
                return Ok(());
            }
            match eyes.images(&desired, &mut observed).await {
                Err(AgentError::Docker(error @ DockerError::Unavailable { .. })) => silent = Some(error),
                looked => looked?,
            }
        }
        let mut ops = plan(&desired, &observed);
        self.report(&ops, &observed);
        if silent.is_some() {
            ops = plan::without_docker(ops, self.records.last().is_some());
        } else if !self.settled {
            self.records.refuse_unknown(&observed).await?;
            self.settled = true;
            info!(replicas = observed.workloads.len(), changes = ops.len(), "Adopted what was there.");
        }
        let content = ops.is_empty();
        let (steps, done) = self.carry_out(ops, &desired, &observed).await;
        // Nobody is told of a key that the device does not have.
        let tunnel = if done.keys { eyes.reached_by(&desired, &observed) } else { desired.tunnel.clone() };
        // What cannot be written now (the disk is full) must not keep the node from being mended.
        let written = match silent {
            None => self.records.write(&desired, &observed, &steps, done, tunnel).await,
            Some(_) => Ok(()),
        };
        let observed = Arc::new(observed);
        for (key, steps) in steps {
            let assignment = desired.replicas.get(&key).cloned();
            if self.records.is_free(&key, assignment.as_ref()) {
                self.set_to_work(key, steps, &desired, &observed);
            }
        }
        match silent {
            Some(error) => Err(error.into()),
            None => {
                self.records.seen(desired, observed, content && written.is_ok());
                written
            }
        }
    }

    /// Tells of entries in the maps that nobody but skepd should have written, and that skepd did not write.
    fn report(&self, ops: &[Op], observed: &Observed) {
        let Observer { own, .. } = self.hands.eyes.as_ref();
        if let Some((desired, before)) = self.records.last() {
            for foreign in foreign::find(ops, observed, (desired, before), own) {
                warn!(map = foreign.map, key = foreign.key, "A foreign entry; removing it.");
                self.hands.eyes.reports().tell(foreign);
            }
        }
        if !self.records.any_busy() {
            own.prune(observed);
        }
    }

    fn set_to_work(&mut self, key: ReplicaKey, steps: Vec<Step>, desired: &Arc<Desired>, observed: &Arc<Observed>) {
        self.records.busy(key.clone(), &steps);
        let (hands, slots) = (Arc::clone(&self.hands), Arc::clone(&self.slots));
        let (desired, observed) = (Arc::clone(desired), Arc::clone(observed));
        let replica = key.clone();
        let task = self.chains.spawn(async move {
            // The semaphore is never closed.
            let _slot = slots.acquire().await;
            hands.replica(replica, steps, &desired, &observed).await
        });
        self.working.insert(task.id(), key);
    }

    /// Writes what a step tells, and whatever else has been told meanwhile.
    async fn tell(&mut self, key: ReplicaKey, progress: Progress) {
        self.records.progress(&key, progress);
        self.hear();
        if let Err(error) = self.records.rewrite().await {
            self.records.note("writing status", &error);
        }
    }

    /// Takes what steps have told so far.
    fn hear(&mut self) {
        while let Ok((key, progress)) = self.progress.try_recv() {
            self.records.progress(&key, progress);
        }
    }

    fn finish(&mut self, done: Result<(Id, Done), JoinError>) {
        // What a chain told before it ended counts: the next look may be the last that knows of the replica.
        self.hear();
        let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(key) = self.working.remove(&id) else { return };
        match done.map(|(_, done)| done) {
            Ok(Ok(())) => self.records.done(&key),
            Ok(Err((op, error))) => {
                let error = in_one_line(&error);
                let failure: &Failure = self.records.failed(&key, &error);
                warn!(attempt = failure.attempts, %error, "Could not {op}; trying again.");
            }
            Err(error) => {
                self.records.failed(&key, &error.to_string());
                warn!(replica = %key, %error, "A task of the agent ended early; trying again.");
            }
        }
    }

    async fn prune(&self) {
        let mut generations = self.hands.generations.lock().await;
        match generations.prune(&self.hands.eyes.maps, Instant::now()) {
            Ok(0) => {}
            Ok(entries) => debug!(entries, "Removed backend sets of old generations."),
            Err(error) => warn!(error = in_one_line(&error), "Could not remove old backend sets; trying again."),
        }
    }

    async fn ensure_ground(&mut self, host: &HostSide) {
        let errors = self.ground.ensure(host).await.err().unwrap_or_default();
        let grumble = errors.iter().map(|error| in_one_line(error)).collect::<Vec<_>>().join("; ");
        if !grumble.is_empty() && grumble != self.grumbled {
            warn!(error = grumble, "The node is not as it should be; trying again.");
        }
        self.grumbled = grumble;
    }
}
