//! The store of several nodes: etcd. Our keys lie under a prefix, so that others may share the etcd.
//!
//! Revisions, leases and the order of events are etcd's own. A watch that loses its connection goes on by itself after
//! the last revision that it brought, on whichever member answers; only compacted history ends it.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{
    Client, CompareOp, ConnectOptions, EventType, GetOptions, KeyValue, KvClient, PutOptions, TxnOp, TxnOpResponse,
    WatchOptions, WatchResponse,
};
use futures_util::StreamExt as _;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::{
    Compare, Entry, Event, Leadership, LeaseId, Outcome, Range, Revision, Store, StoreError, Txn, WatchStream, Write,
};

/// Keys that one answer brings.
const PAGE: i64 = 500;
/// Octets of the largest answer: as many as etcd's own client takes. gRPC's 4 MiB are less than what a watch that was cut
/// off for a while is told at once, or than a page of large environments.
const ANSWER: usize = i32::MAX as usize;
/// For each request; a change is refused after that.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between attempts to resume a watch.
const RETRY: Duration = Duration::from_millis(500);
/// How long a dead leader keeps its office; it is held by a lease of that time.
const OFFICE: Duration = Duration::from_secs(10);
/// Pings on an idle connection: a watch on a member that is cut off has to notice.
const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5));

/// An etcd, by some of its members.
pub struct Etcd {
    client: Client,
    prefix: String,
    /// Keep the offices that were won.
    offices: Mutex<JoinSet<()>>,
}

impl Etcd {
    /// Goes to whichever member answers (`https://10.0.0.1:2379`); keys begin with `prefix` (`/skep`) there. None need
    /// answer yet.
    ///
    /// # Errors
    /// [`StoreError::Etcd`] when it can never be: an address or a certificate makes no sense, or etcd refuses the user.
    pub async fn connect(members: &[String], prefix: &str, options: ConnectOptions) -> Result<Self, StoreError> {
        let options = options
            .with_timeout(TIMEOUT)
            .with_connect_timeout(TIMEOUT)
            .with_keep_alive(PING.0, PING.1)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        let client = Client::connect(members, Some(options)).await.map_err(failed("connect to"))?;
        Ok(Self { client, prefix: prefix.to_owned(), offices: Mutex::default() })
    }

    fn kv(&self) -> KvClient {
        self.client.kv_client().max_decoding_message_size(ANSWER)
    }

    /// What etcd calls a key of ours. Each begins with a slash: `/skep` and `/skep2` keep apart.
    fn name(&self, key: &str) -> String {
        format!("{}{}", self.prefix, if key.is_empty() { "/" } else { key })
    }

    /// The office's key as it is now, taken over from nobody or from the candidate's own former life.
    async fn take_office(&self, key: &str, candidate: &str) -> Result<Option<(Leadership, LeaseId)>, StoreError> {
        let before = self.get(key).await?;
        let compare = match before {
            None => Compare::Absent(key.to_owned()),
            Some(before) if *before.value == *candidate.as_bytes() => Compare::Revision(before.key, before.revision),
            Some(_) => return Ok(None),
        };
        let lease = self.grant(OFFICE).await?;
        let put = Write::Put { key: key.to_owned(), value: candidate.into(), lease: Some(lease) };
        match self.txn(Txn { compare: vec![compare], then: vec![put] }).await? {
            Outcome::Committed(revision) => Ok(Some((Leadership { key: key.to_owned(), revision }, lease))),
            Outcome::Conflict => {
                self.revoke(lease).await?;
                Ok(None)
            }
        }
    }
}

#[async_trait]
impl Store for Etcd {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let answer = self.kv().get(self.name(key), None).await.map_err(failed("read from"))?;
        answer.kvs().first().map(|found| entry(&self.prefix, found)).transpose()
    }

    async fn range(&self, prefix: &str) -> Result<Range, StoreError> {
        let (first, mut client) = (self.name(prefix), self.kv());
        let mut from = first.clone().into_bytes();
        let (mut at, mut entries) = (None, Vec::new());
        loop {
            let options = GetOptions::new().with_range(end_of(&first)).with_limit(PAGE);
            // All pages are of one moment.
            let options = options.with_revision(at.unwrap_or_default());
            let answer = client.get(from, Some(options)).await.map_err(failed("read from"))?;
            let now = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
            let revision = *at.get_or_insert(now);
            for found in answer.kvs() {
                entries.push(entry(&self.prefix, found)?);
            }
            match answer.kvs().last().filter(|_| answer.more()) {
                Some(last) => from = [last.key(), &[0]].concat(),
                None => return Ok(Range { revision: unsigned(revision), entries }),
            }
        }
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError> {
        Ok(match self.attempt(txn).await? {
            Attempt::Committed(revision) => Outcome::Committed(revision),
            Attempt::Conflict(_) => Outcome::Conflict,
        })
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        let watch = Watch {
            client: self.client.clone(),
            prefix: self.prefix.clone(),
            name: self.name(prefix),
            after,
            open: None,
        };
        Ok(futures_util::stream::unfold(Some(watch), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(events) => Some((Ok(events), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed())
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let seconds = i64::try_from(ttl.as_secs_f64().ceil() as u64).unwrap_or(i64::MAX);
        let lease = self.client.lease_client().grant(seconds, None).await.map_err(failed("write to"))?;
        Ok(LeaseId(unsigned(lease.id())))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        // The first answer is read before this returns.
        match timeout(TIMEOUT, self.client.lease_client().keep_alive(signed(lease.0))).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(etcd_client::Error::LeaseKeepAliveError(_))) => Err(StoreError::LeaseEnded { lease }),
            Ok(Err(error)) => Err(failed("write to")(error)),
            Err(_) => Err(failed("write to")(etcd_client::Error::LeaseKeepAliveError("no answer".into()))),
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        match self.client.lease_client().revoke(signed(lease.0)).await {
            Ok(_) => Ok(()),
            Err(error) if is_lease_gone(&error) => Ok(()),
            Err(error) => Err(failed("write to")(error)),
        }
    }

    async fn campaign(&self, election: &str, candidate: &str) -> Result<Leadership, StoreError> {
        let key = format!("/elections/{election}");
        loop {
            let seen = self.range(&key).await?.revision;
            if let Some((leadership, lease)) = self.take_office(&key, candidate).await? {
                self.offices.lock().await.spawn(keep(self.client.clone(), lease));
                return Ok(leadership);
            }
            let mut watch = self.watch(&key, seen).await?;
            while let Some(events) = watch.next().await {
                if events?.iter().any(|event| matches!(event, Event::Delete { .. })) {
                    break;
                }
            }
        }
    }
}

/// Keeps a lease until etcd says that it has ended.
async fn keep(client: Client, lease: LeaseId) {
    loop {
        let begun = Instant::now();
        match timeout(TIMEOUT, client.lease_client().keep_alive(signed(lease.0))).await {
            Ok(Err(etcd_client::Error::LeaseKeepAliveError(_))) => {
                return warn!("The office of the leader is lost: its lease has ended.");
            }
            Ok(Ok(_)) => sleep((OFFICE / 4).saturating_sub(begun.elapsed())).await,
            Ok(Err(_)) | Err(_) => sleep(RETRY).await,
        }
    }
}

/// What became of a transaction, in more words than [`Outcome`].
pub(super) enum Attempt {
    Committed(Revision),
    /// The keys that it compared, with the revisions of their last puts at that moment; [`None`]: there is no such key.
    Conflict(Vec<(String, Option<Revision>)>),
}

impl Etcd {
    /// A transaction. What it compares comes with its answer: whoever met a conflict need not ask.
    pub(super) async fn attempt(&self, txn: Txn) -> Result<Attempt, StoreError> {
        txn.check()?;
        let leases: Vec<LeaseId> = txn.then.iter().filter_map(Write::lease).collect();
        let compared: BTreeSet<String> = txn.compare.iter().map(|compare| compare.key().to_owned()).collect();
        let look = |key: &String| TxnOp::get(self.name(key), Some(GetOptions::new().with_keys_only()));
        let looks: Vec<_> = compared.iter().map(look).collect();
        let compares: Vec<_> = txn.compare.into_iter().flat_map(|compare| self.compare(compare)).collect();
        let writes: Vec<_> = txn.then.into_iter().map(|write| self.write(write)).collect();
        let txn = etcd_client::Txn::new().when(compares).and_then(writes).or_else(looks);
        let answer = self.kv().txn(txn).await.map_err(|error| match leases.first() {
            Some(lease) if is_lease_gone(&error) => StoreError::LeaseEnded { lease: *lease },
            _ => failed("write to")(error),
        })?;
        if answer.succeeded() {
            let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
            return Ok(Attempt::Committed(unsigned(revision)));
        }
        let found = answer.op_responses().into_iter().map(|answer| match answer {
            TxnOpResponse::Get(answer) => answer.kvs().first().map(|found| unsigned(found.mod_revision())),
            _ => None,
        });
        Ok(Attempt::Conflict(compared.into_iter().zip(found).collect()))
    }

    fn compare(&self, compare: Compare) -> Vec<etcd_client::Compare> {
        use etcd_client::Compare as Is;
        match compare {
            Compare::Revision(key, revision) => {
                vec![Is::mod_revision(self.name(&key), CompareOp::Equal, signed(revision))]
            }
            Compare::Absent(key) => vec![Is::create_revision(self.name(&key), CompareOp::Equal, 0)],
            // A key that is not there has the empty value, for etcd.
            Compare::Value(key, value) => vec![
                Is::create_revision(self.name(&key), CompareOp::Greater, 0),
                Is::value(self.name(&key), CompareOp::Equal, value.to_vec()),
            ],
        }
    }

    fn write(&self, write: Write) -> TxnOp {
        match write {
            Write::Put { key, value, lease } => {
                let options = lease.map(|lease| PutOptions::new().with_lease(signed(lease.0)));
                TxnOp::put(self.name(&key), value.to_vec(), options)
            }
            Write::Delete(key) => TxnOp::delete(self.name(&key), None),
        }
    }
}

/// A watch that outlives its connections.
struct Watch {
    client: Client,
    prefix: String,
    name: String,
    /// The last revision that is known.
    after: Revision,
    open: Option<Open>,
}

/// One connection of it.
struct Open {
    stream: etcd_client::WatchStream,
    /// Revisions that came, and are not told yet.
    queue: std::collections::VecDeque<(Revision, Vec<Event>)>,
}

impl Watch {
    async fn next(&mut self) -> Result<Vec<Event>, StoreError> {
        loop {
            if let Some((revision, events)) = self.open.as_mut().and_then(|open| open.queue.pop_front()) {
                self.after = revision;
                return Ok(events);
            }
            let answer = match self.open.as_mut() {
                Some(open) => open.stream.message().await,
                None => match self.begin().await {
                    Ok(open) => {
                        self.open = Some(open);
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            match answer {
                Ok(Some(answer)) if answer.compact_revision() > 0 => {
                    // Of the compacted revision itself the value is kept, but no event before it.
                    let kept = unsigned(answer.compact_revision()).saturating_sub(1);
                    return Err(StoreError::Compacted { after: self.after, kept });
                }
                Ok(Some(answer)) if !answer.canceled() => self.queue(&answer)?,
                Ok(_) | Err(_) => {
                    self.open = None;
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn begin(&self) -> Result<Open, etcd_client::Error> {
        let options = WatchOptions::new().with_range(end_of(&self.name)).with_start_revision(signed(self.after + 1));
        let mut client = self.client.watch_client().max_decoding_message_size(ANSWER);
        let stream = client.watch(self.name.as_str(), Some(options)).await?;
        Ok(Open { stream, queue: std::collections::VecDeque::new() })
    }

    /// An answer has whole revisions only, in their order.
    fn queue(&mut self, answer: &WatchResponse) -> Result<(), StoreError> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        for event in answer.events() {
            let Some(found) = event.kv() else { continue };
            let event = match event.event_type() {
                EventType::Put => Event::Put(entry(&self.prefix, found)?),
                EventType::Delete => {
                    let Entry { key, revision, .. } = entry(&self.prefix, found)?;
                    Event::Delete { key, revision }
                }
            };
            match open.queue.back_mut() {
                Some((revision, events)) if *revision == event.revision() => events.push(event),
                _ => open.queue.push_back((event.revision(), vec![event])),
            }
        }
        Ok(())
    }
}

fn entry(prefix: &str, found: &KeyValue) -> Result<Entry, StoreError> {
    let name = String::from_utf8_lossy(found.key());
    let key = name.strip_prefix(prefix).ok_or_else(|| StoreError::Key { key: name.clone().into_owned() })?.to_owned();
    let lease = (found.lease() != 0).then(|| LeaseId(unsigned(found.lease())));
    Ok(Entry { key, value: found.value().into(), revision: unsigned(found.mod_revision()), lease })
}

/// The end of the range of all keys that begin with this one: its last octet is one more.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    // UTF-8 has no octet of 255.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// etcd's numbers are signed, and never negative.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Whether etcd's database has reached its quota: it takes no changes until somebody has made room.
fn is_full(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message().contains("database space exceeded"))
}

/// Whether etcd does not know who asks, or lets them do nothing.
fn is_refusal(error: &etcd_client::Error) -> bool {
    let etcd_client::Error::GRpcStatus(status) = error else { return false };
    ["permission denied", "user name not found", "authentication failed"].iter().any(|it| status.message().contains(it))
}

fn is_lease_gone(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message().contains("lease not found"))
}

fn failed(operation: &'static str) -> impl FnOnce(etcd_client::Error) -> StoreError {
    move |error| {
        let (refused, full, source) = (is_refusal(&error), is_full(&error), Box::new(error));
        match (refused, full) {
            (true, _) => StoreError::NotAdmitted { source },
            (false, true) => StoreError::EtcdFull { source },
            (false, false) => StoreError::Etcd { operation, source },
        }
    }
}
