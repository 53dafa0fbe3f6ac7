//! This node among the nodes: its record, that it is there, how it is reached.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::config::Config;
use crate::controller::{self, ControllerError};
use crate::durable;
use crate::machine;
use crate::model::{DaemonRecord, NodeRecord, Presence};
use crate::random::{self, RandomError};
use crate::store::schema::{self, Versioned};
use crate::store::{LeaseId, Outcome, Store, StoreError, Txn, Write};

/// Nothing heard of a node for so long, and the others send nobody to it any more.
const LEASE: Duration = Duration::from_secs(10);
/// Between signs of life.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// Name of the file that tells state directories apart.
pub(crate) const INSTANCE_FILE: &str = "instance";

/// Why this node cannot be one of them.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// Another machine has its name.
    #[error(
        "another machine is there by the name {name}: give this one another --node-name, or end skepd there, and wait {} s",
        LEASE.as_secs()
    )]
    NameInUse {
        /// The name.
        name: String,
    },
    /// The file that tells state directories apart.
    #[error("cannot {operation} {}: {source}: run skepd as root, or give another --state-dir", path.display())]
    File {
        /// What failed.
        operation: &'static str,
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No instance can be made up.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The record.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// This node's part in the store.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its record.
    pub record: NodeRecord,
    presence: Presence,
    /// What it is there under.
    lease: Option<LeaseId>,
}

impl Member {
    /// Takes this node's place, which is made if there is none. `daemon`: how the others ask this daemon.
    ///
    /// # Errors
    /// [`MembershipError`]; [`MembershipError::NameInUse`] while another machine is there by its name.
    pub async fn register(
        store: &dyn Store,
        config: &Config,
        daemon: Option<DaemonRecord>,
    ) -> Result<Self, MembershipError> {
        let presence = Presence {
            instance: instance(&config.state_dir)?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capacity: machine::capacity(),
            daemon,
        };
        let there = schema::get_json(store, &schema::presence(&config.node_name)).await?;
        if there.is_some_and(|there| there.value.instance != presence.instance) {
            return Err(MembershipError::NameInUse { name: config.node_name.clone() });
        }
        let record = controller::register(store, &config.pools(), &config.node_name).await?;
        let mut member = Self { record, presence, lease: None };
        // Later is early enough: a full disk must not keep a daemon from looking after what runs.
        match member.appear(store).await {
            Ok(lease) => member.lease = lease,
            Err(error) => warn!(%error, "Cannot tell the other nodes that this one is there; trying again."),
        }
        Ok(member)
    }

    /// Keeps telling that this node is there, for as long as it is polled.
    pub async fn stay(&self, store: &dyn Store) -> Infallible {
        let (mut lease, mut silent) = (self.lease, None);
        loop {
            let begun = Instant::now();
            match self.tell(store, &mut lease).await {
                Ok(()) => {
                    if let Some(since) = silent.take() {
                        let seconds = Instant::now().duration_since(since).as_secs();
                        info!(seconds, "The store answers again.");
                    }
                }
                Err(error) if silent.is_none() => {
                    silent = Some(begun);
                    warn!(%error, "This node is cut off from the store; what runs goes on, and so does its network.");
                }
                Err(_) => {}
            }
            sleep(HEARTBEAT.saturating_sub(begun.elapsed())).await;
        }
    }

    async fn tell(&self, store: &dyn Store, lease: &mut Option<LeaseId>) -> Result<(), StoreError> {
        if let Some(held) = *lease {
            match store.keep_alive(held).await {
                Err(StoreError::LeaseEnded { .. }) => *lease = None,
                kept => return kept,
            }
        }
        *lease = self.appear(store).await?;
        Ok(())
    }

    /// Appears under a lease; the one that it is under then. [`None`]: another machine is there by its name.
    async fn appear(&self, store: &dyn Store) -> Result<Option<LeaseId>, StoreError> {
        let key = schema::presence(&self.record.name);
        let before = schema::get_json(store, &key).await?;
        let own = |there: &Versioned<Presence>| there.value.instance == self.presence.instance;
        if before.as_ref().is_some_and(|there| !own(there)) {
            warn!(name = self.record.name, "Another machine is there by this node's name.");
            return Ok(None);
        }
        let lease = store.grant(LEASE).await?;
        let mut txn = Txn::default().when(&key, before.map(|before| before.revision));
        txn.then.push(Write::json(&key, &self.presence, Some(lease))?);
        match store.txn(txn).await? {
            Outcome::Committed(_) => Ok(Some(lease)),
            Outcome::Conflict => {
                store.revoke(lease).await?;
                Ok(None)
            }
        }
    }
}

/// What tells this state directory from others.
fn instance(state_dir: &Path) -> Result<String, MembershipError> {
    let path = state_dir.join(INSTANCE_FILE);
    let failed = |operation| {
        let path = path.clone();
        move |source| MembershipError::File { operation, path, source }
    };
    match std::fs::read_to_string(&path) {
        Ok(known) if !known.trim().is_empty() => return Ok(known.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed("read")(error)),
        _ => {}
    }
    let made: [u8; 16] = random::octets()?;
    let made: String = made.iter().map(|octet| format!("{octet:02x}")).collect();
    durable::put(&path, made.as_bytes()).map_err(failed("write"))?;
    Ok(made)
}

/// The address that other nodes reach this one by: what it was told, or the one that it would use to go out.
pub fn own_address(told: Option<IpAddr>) -> Option<IpAddr> {
    // Documentation prefixes, RFC 5737 and RFC 3849: nothing is sent, the routing table is asked.
    let toward: [SocketAddr; 2] =
        [(Ipv4Addr::new(192, 0, 2, 1), 9).into(), (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into()];
    let asked = toward.into_iter().filter_map(|to| {
        let any: SocketAddr =
            if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    told.or_else(|| asked.into_iter().next())
}
