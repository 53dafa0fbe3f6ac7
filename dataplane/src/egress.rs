//! The firewall around the programs: what leaves is masqueraded, what the programs did not mark is
//! not forwarded, no process of the host sends to a container, and nobody but our containers gets at
//! the DNS address. A veth that has lost one of its programs is so closed, too.
//!
//! One nftables table per daemon (`inet skep_<node>`), replaced in one transaction, and the least
//! that is needed in Docker's `DOCKER-USER` chain: Docker sets the policy of `FORWARD` to drop, and
//! an `accept` in a table of our own cannot override a drop in another. For the same reason ufw's chain for
//! what this machine is asked gets a rule, and firewalld is told of the devices.
//! The programs alone keep environments apart; flushing every rule here opens nothing between them.

mod command;
mod dropped;
mod firewalld;
mod iptables;
mod legacy;
mod nft;
mod watch;

use std::net::Ipv4Addr;

use ipnet::{Ipv4Net, Ipv6Net};
use tokio::sync::Mutex;
use watch::Watch;

pub use dropped::dropped;
pub(crate) use watch::changes;

/// What the rules depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRules {
    /// Names the table.
    pub node: String,
    /// Addresses of replicas.
    pub container_pool4: Ipv4Net,
    /// Addresses of replicas.
    pub container_pool6: Ipv6Net,
    /// Cluster DNS address.
    pub dns: Ipv4Addr,
    /// Devices through which traffic may leave; none: nothing leaves.
    pub uplinks: Vec<String>,
    /// Mark that `from_container` gives to what may use the stack.
    pub pass_mark: u32,
    /// Mark of skepd's own sockets.
    pub host_mark: u32,
    /// The bits of the mark that are Skep's.
    pub mark_mask: u32,
}

/// What a firewall command said.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The command is not there.
    #[error("cannot run {program}: install it (apt-get install {package})")]
    Missing {
        /// Command.
        program: String,
        /// Debian package.
        package: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The command failed.
    #[error("{command} failed: {stderr}")]
    Failed {
        /// With its arguments.
        command: String,
        /// What it said.
        stderr: String,
    },
}

/// Makes the rules so; returns whether anything had to be changed.
///
/// # Errors
/// [`EgressError`]; the table is changed in one transaction, so an error leaves the old one in force.
pub async fn ensure(rules: &EgressRules) -> Result<bool, EgressError> {
    let table = nft::ensure(rules).await?;
    let chains = iptables::ensure(rules).await?;
    let zone = firewalld::ensure().await?;
    Ok(table || chains || zone)
}

/// The rules of one daemon over time: their programs are run only when something is not as they left it.
#[derive(Debug)]
pub struct Firewall {
    /// `None` where the kernel does not tell: then the programs are asked each time.
    watch: Mutex<Option<Watch>>,
}

impl Default for Firewall {
    fn default() -> Self {
        Self { watch: Mutex::new(Watch::new().ok()) }
    }
}

impl Firewall {
    /// [`ensure`], if there is reason to.
    ///
    /// # Errors
    /// [`EgressError`].
    pub async fn ensure(&self, rules: &EgressRules) -> Result<bool, EgressError> {
        let mut guard = self.watch.lock().await;
        let Some(watch) = guard.as_mut() else { return ensure(rules).await };
        if watch.is_as_left(rules) {
            return Ok(false);
        }
        let before = watch.look(rules).ok();
        let changed = ensure(rules).await?;
        let after = watch.look(rules).ok();
        watch.found(rules, changed, before, after);
        Ok(changed)
    }
}

/// Removes every rule of the daemon `node`; none is success.
///
/// # Errors
/// [`EgressError`].
pub async fn remove(node: &str) -> Result<(), EgressError> {
    let (chains, zone) = (iptables::remove(node).await, firewalld::remove().await);
    nft::remove(node).await?;
    chains.and(zone)
}
