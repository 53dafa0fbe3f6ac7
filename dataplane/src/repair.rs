//! `skepd repair`: puts a sound store in the place of a damaged one, out of its last good copy and of what runs.
//!
//! Replicas that run here and that the store knows nothing of were assigned after it was written. They are taken back
//! from the record that each workload carries, with their ids and addresses; the daemon then adopts them as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::backup::is_served;
use crate::backup::revive::{self, put};
use crate::config::Config;
use crate::docker::{Docker, DockerError, RecordedContainer};
use crate::model::{Pools, ReplicaKey, ReplicaState, ReplicaStatus};
use crate::store::{Embedded, Snapshot, StoreError, schema};

mod adopt;

/// Why nothing was repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The daemon has the store.
    #[error("skepd serves {}: stop it first (systemctl stop skepd, or kill its process); what runs goes on", path.display())]
    Running {
        /// Its socket.
        path: PathBuf,
    },
    /// Replicas that cannot be taken back.
    #[error(
        "nothing was changed, what runs here cannot all be taken back ({}): restore a backup, \
        or --forget to have these removed at the next start", replicas.join("; ")
    )]
    Lost {
        /// Which, each with the reason.
        replicas: Vec<String>,
    },
    /// Nothing to begin with.
    #[error(
        "the store of {} is damaged, no copy of it is sound, and nothing of it runs here: restore a backup with \
        `skepd restore --replace`, or move the directory away to start empty", state_dir.display()
    )]
    Nothing {
        /// The state directory.
        state_dir: PathBuf,
    },
    /// The store cannot be read or written for another reason than damage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Docker does not tell what runs.
    #[error(transparent)]
    Docker(#[from] DockerError),
}

/// What was done, a line each; empty: there was nothing to do.
pub type Report = Vec<String>;

/// Repairs the store of a daemon that does not run. `forget`: what cannot be taken back is removed at the next start.
/// `dry_run`: only tells.
///
/// # Errors
/// [`RepairError`]; then nothing was changed.
pub async fn repair(config: &Config, forget: bool, dry_run: bool) -> Result<Report, RepairError> {
    let path = config.socket();
    if is_served(&path).await {
        return Err(RepairError::Running { path });
    }
    let containers = Docker::connect(&config.docker).await?.records(&config.node_name).await?;
    let mut report = Report::new();
    let base = base(config, &mut report)?;
    let Some(snapshot) = mended(base, &containers, config, forget, &mut report)? else { return Ok(report) };
    if !dry_run && let Some(kept) = Embedded::replace(&config.store_file(), &snapshot)? {
        report.push(format!("the store before is kept as {}", kept.display()));
    }
    Ok(report)
}

/// The best snapshot there is, and whether it is the store itself.
fn base(config: &Config, report: &mut Report) -> Result<(Snapshot, bool), RepairError> {
    let damage = match Embedded::read(&config.store_file()) {
        Ok(snapshot) => return Ok((snapshot, true)),
        Err(StoreError::Corrupt { detail, .. }) => detail,
        Err(StoreError::Missing { .. }) => "it is gone".to_owned(),
        Err(error) => return Err(error.into()),
    };
    report.push(format!("the store is damaged: {damage}"));
    for copy in Embedded::copies(&config.store_file()) {
        match copy.content {
            Ok(snapshot) => {
                let (path, revision) = (copy.path.display(), snapshot.revision);
                report.push(format!("taken its copy {path} of revision {revision}"));
                return Ok((snapshot, false));
            }
            Err(error) => report.push(format!("its copy {} is damaged too: {error}", copy.path.display())),
        }
    }
    Ok((Snapshot::default(), false))
}

/// The store as it should be; [`None`] when it is so already.
fn mended(
    (mut snapshot, is_store): (Snapshot, bool),
    containers: &[RecordedContainer],
    config: &Config,
    forget: bool,
    report: &mut Report,
) -> Result<Option<Snapshot>, RepairError> {
    let known = known(&snapshot, &config.node_name)?;
    let unknown: BTreeSet<&ReplicaKey> = containers.iter().map(|c| &c.key).filter(|key| !known.contains(key)).collect();
    if is_store && unknown.is_empty() {
        return Ok(None);
    }
    if snapshot == Snapshot::default() && unknown.is_empty() {
        return Err(RepairError::Nothing { state_dir: config.state_dir.clone() });
    }
    let pools: Pools = config.pools();
    revive::advance(&mut snapshot, &pools)?;
    let records: BTreeMap<_, _> = containers.iter().filter_map(|c| Some((&c.key, c.record.as_ref()?))).collect();
    let mut lost = Vec::new();
    // Nobody hears their commands any more.
    let (passing, unknown): (Vec<_>, Vec<_>) = unknown.into_iter().partition(|key| key.is_one_off());
    for key in unknown {
        let taken = match records.get(key) {
            Some(record) => adopt::adopt(&mut snapshot, record, &pools)?,
            None => Err("its container carries no record".to_owned()),
        };
        match taken {
            Ok(()) => report.push(format!("taken back from what runs: {key}")),
            Err(reason) => lost.push((key, reason)),
        }
    }
    if !forget && !lost.is_empty() {
        let replicas = lost.into_iter().map(|(key, reason)| format!("{key}: {reason}")).collect();
        return Err(RepairError::Lost { replicas });
    }
    for key in lost.into_iter().map(|(key, _)| key).chain(passing) {
        report.push(format!("will be removed at the next start: {key}"));
        put(&mut snapshot, &schema::status(&config.node_name, key), &leaving(key, &config.node_name))?;
    }
    Ok(Some(snapshot))
}

/// Replicas that are assigned to a node, or that it still had something of.
fn known(snapshot: &Snapshot, node: &str) -> Result<BTreeSet<ReplicaKey>, StoreError> {
    let keys = [schema::replicas_of(node).as_str().to_owned(), schema::statuses_of(node).as_str().to_owned()];
    let entries = keys.iter().flat_map(|prefix| snapshot.range(prefix));
    entries.map(|entry| schema::replica_of(&entry.key).ok_or(StoreError::Key { key: entry.key })).collect()
}

/// The status that lets the agent take a replica away.
fn leaving(key: &ReplicaKey, node: &str) -> ReplicaStatus {
    ReplicaStatus { state: ReplicaState::Stopping, ..ReplicaStatus::new(key.clone(), node) }
}
